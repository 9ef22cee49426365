//! The command line.

use rtcp::emulator::{BurstLoss, Codel, Impairments, Outage, Policer, RateStep, Window};
use rtcp::time::Time;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

pub(crate) const HELP: &str = "\
udpl: a bad link between UDP programs, in real time and with a seed.

usage: udpl --listen ADDR:PORT --to ADDR:PORT [options]

Datagrams that arrive at --listen go to --to, each client from a port of its own. Nothing goes back
unless asked for: a receiver may answer its peer directly, past the proxy.

  --listen ADDR:PORT   where clients send to; port 0 takes a free one. The first line on stdout is
                       `listening ADDR:PORT` with the one taken
  --to ADDR:PORT       where their datagrams go
  --two-way            relay answers to the client, unimpaired
  --back same          relay answers with the impairments of the forward direction
  --back 'OPTIONS'     relay answers with these impairments, as in --back '--loss 10 --delay-ms 50'
  --back-NAME VALUE    relay answers with impairment NAME, as in --back-loss 10; changes --back same
  --seed N             chance is the same for the same seed (default 1)
  --duration-s N       end after N seconds; SIGINT and SIGTERM end it as well
  --json               statistics as one line of JSON on stdout as well as in words on stderr
  --help               this text

impairments:
  --loss PERCENT               lose datagrams
  --burst-loss GOOD_MS,BAD_MS[,PERCENT[,PERCENT]]
                               lose in bursts: mean times between and within bursts, loss within (100)
                               and between (0)
  --reorder PERCENT            swap datagrams with their successor
  --reorder-hold-ms MS         hold them for it no longer than this (default 100)
  --late PERCENT,MS            delay datagrams by MS more, so that others overtake them
  --duplicate PERCENT          deliver datagrams twice
  --bit-error N                flip bits, each with probability N/100000; the UDP checksum is right again
  --delay-ms MS                delay
  --jitter-ms MS               more delay, uniform from 0 to MS, in order
  --jitter-reorder             let jitter change the order
  --rate-kbit N                rate in 1000 bit/s
  --rate-step AT_S,N           change the rate to N at AT_S; repeatable; 0 stops the link
  --queue BYTES                drop-tail queue in front of the rate, datagram in service included
                               (default with a rate: 100 ms of it, at least 8192)
  --codel TARGET_MS,INTERVAL_MS
                               manage that queue with CoDel (RFC 8289, which proposes 5,100): drop from
                               its head once datagrams have waited so long throughout an interval
  --policer N,BYTES            drop what comes faster than N kbit/s and exceeds a bucket of BYTES; no queue
  --overhead BYTES             count so much more per datagram for rate, queue, policer and MTU (default 0)
  --blackout FROM_S,LENGTH_S   lose everything for a while; repeatable
  --outage EVERY_S,LENGTH_S    lose everything in the last LENGTH_S of every EVERY_S
  --mtu BYTES                  swallow larger datagrams

Numbers may have decimals. Times AT_S, FROM_S and EVERY_S count from the first datagram.
";

/// What to do.
pub(crate) enum Command {
    Help,
    Run(Box<Options>),
}

/// How to run.
pub(crate) struct Options {
    pub(crate) listen: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) forward: Impairments,
    /// `None` is one-way.
    pub(crate) back: Option<Impairments>,
    pub(crate) seed: u64,
    pub(crate) duration: Option<Duration>,
    pub(crate) json: bool,
}

/// Reads the arguments after the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let mut words = Words(arguments.into_iter().collect::<Vec<_>>().into_iter());
    let (mut listen, mut to, mut seed, mut duration) = (None, None, 1, None);
    let (mut forward, mut json, mut two_way) = (Impairments::default(), false, false);
    let mut same = false;
    // Kept for later: what they change may be said by a `--back same` that is still to come.
    let mut back_text: Vec<String> = Vec::new();
    let mut back_words: Vec<(String, Option<String>)> = Vec::new();
    while let Some(word) = words.0.next() {
        let (name, inline) = split(&word)?;
        let mut value = |form: &str| words.value(name, inline.clone(), form);
        match name {
            "help" => return Ok(Command::Help),
            "listen" => listen = Some(address(name, &value("ADDR:PORT")?)?),
            "to" => to = Some(destination(name, &value("ADDR:PORT")?)?),
            "seed" => seed = number(name, &value("a whole number")?, "a whole number from 0 to 2^64 - 1")?,
            "duration-s" => duration = Some(seconds(name, &value("seconds")?)?),
            "json" => no_value(name, inline, &mut json)?,
            "two-way" => no_value(name, inline, &mut two_way)?,
            "back" => match value("`same` or impairments")? {
                text if text == "same" => same = true,
                text => back_text.push(text),
            },
            _ => match name.strip_prefix("back-") {
                Some("jitter-reorder") => back_words.push((name.to_owned(), inline)),
                Some(_) => back_words.push((name.to_owned(), Some(value("a value")?))),
                None => impair(&mut forward, name, name, inline, &mut words)?,
            },
        }
    }
    let mut back = if same { forward.clone() } else { Impairments::default() };
    two_way |= same || !back_text.is_empty() || !back_words.is_empty();
    for text in back_text {
        parse_impairments(&mut back, &text)?;
    }
    for (name, inline) in back_words {
        let plain = name.strip_prefix("back-").unwrap_or(&name);
        impair(&mut back, &name, plain, inline, &mut Words(Vec::new().into_iter()))?;
    }
    let missing =
        |name: &str| format!("--{name} is missing; give it as --{name} ADDR:PORT (--help tells all)");
    let options = Options {
        listen: listen.ok_or_else(|| missing("listen"))?,
        to: to.ok_or_else(|| missing("to"))?,
        forward: with_default_queue(forward),
        back: two_way.then(|| with_default_queue(back)),
        seed,
        duration,
        json,
    };
    Ok(Command::Run(Box::new(options)))
}

/// The impairments in one argument: options without `--back-`, with or without dashes.
fn parse_impairments(what: &mut Impairments, text: &str) -> Result<(), String> {
    let mut words = Words(text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter());
    while let Some(word) = words.0.next() {
        let dashed = if word.starts_with("--") { word } else { format!("--{word}") };
        let (name, inline) = split(&dashed)?;
        impair(what, name, name, inline, &mut words)?;
    }
    Ok(())
}

/// Applies impairment `name`, which the user wrote as `shown`.
fn impair(
    what: &mut Impairments,
    shown: &str,
    name: &str,
    inline: Option<String>,
    words: &mut Words,
) -> Result<(), String> {
    if name == "jitter-reorder" {
        return no_value(shown, inline, &mut what.jitter_reorder);
    }
    let mut value = |form: &str| words.value(shown, inline.clone(), form);
    match name {
        "loss" => what.loss = percent(shown, &value("PERCENT")?)?,
        "burst-loss" => what.burst_loss = Some(burst_loss(shown, &value("GOOD_MS,BAD_MS")?)?),
        "reorder" => what.reorder = percent(shown, &value("PERCENT")?)?,
        "reorder-hold-ms" => what.reorder_hold = millis(shown, &value("MS")?)?,
        "late" => {
            let text = value("PERCENT,MS")?;
            let (share, by) = pair(shown, &text, "PERCENT,MS")?;
            (what.late, what.late_by) = (percent(shown, share)?, millis(shown, by)?);
        }
        "duplicate" => what.duplicate = percent(shown, &value("PERCENT")?)?,
        "bit-error" => {
            let text = value("N")?;
            let form = "a number of errors in 100000 bits, from 0 to 100000";
            what.bit_error_rate = within(shown, &text, 0.0..=100_000.0, form)? / 100_000.0;
        }
        "delay-ms" => what.delay = millis(shown, &value("MS")?)?,
        "jitter-ms" => what.jitter = millis(shown, &value("MS")?)?,
        "rate-kbit" => {
            let form = "kbit/s from 0.001 to 1000000000, or leave it out for no limit";
            let kbit = within(shown, &value("N")?, 0.001..=1e9, form)?;
            what.rate_bit_per_s = Some((kbit * 1e3) as u64);
        }
        "rate-step" => {
            let text = value("AT_S,N")?;
            let (at, kbit) = pair(shown, &text, "AT_S,N")?;
            let kbit = within(shown, kbit, 0.0..=1e9, "kbit/s from 0 to 1000000000")?;
            let at = Time::ZERO + seconds(shown, at)?;
            what.rate_steps.push(RateStep { at, rate_bit_per_s: Some((kbit * 1e3) as u64) });
            what.rate_steps.sort_by_key(|step| step.at);
        }
        "queue" => what.queue_bytes = Some(number(shown, &value("BYTES")?, "a whole number of bytes")?),
        "codel" => what.codel = Some(codel(shown, &value(CODEL_FORM)?)?),
        "policer" => what.policer = Some(policer(shown, &value(POLICER_FORM)?)?),
        "overhead" => what.overhead_bytes = number(shown, &value("BYTES")?, "a whole number of bytes")?,
        "blackout" => {
            let text = value("FROM_S,LENGTH_S")?;
            let (from, length) = pair(shown, &text, "FROM_S,LENGTH_S")?;
            let from = Time::ZERO + seconds(shown, from)?;
            what.blackouts.push(Window { from, until: from + seconds(shown, length)? });
        }
        "outage" => {
            let text = value("EVERY_S,LENGTH_S")?;
            let (every, length) = pair(shown, &text, "EVERY_S,LENGTH_S")?;
            what.outage = Some(Outage { every: seconds(shown, every)?, length: seconds(shown, length)? });
        }
        "mtu" => what.mtu = Some(number(shown, &value("BYTES")?, "a whole number of bytes")?),
        _ => return Err(format!("--{shown} is no option; see --help for those there are")),
    }
    Ok(())
}

/// A queue that no one would notice to be missing would hold minutes.
fn with_default_queue(mut what: Impairments) -> Impairments {
    let fastest =
        what.rate_steps.iter().filter_map(|step| step.rate_bit_per_s).chain(what.rate_bit_per_s).max();
    if let Some(rate) = fastest
        && what.queue_bytes.is_none()
    {
        let tenth_of_a_second = usize::try_from(rate / 80).unwrap_or(usize::MAX);
        what.queue_bytes = Some(tenth_of_a_second.max(8_192));
    }
    what
}

/// The arguments that are still to be read.
struct Words(std::vec::IntoIter<String>);

impl Words {
    /// The value of `--name`: behind its `=`, or the next word.
    fn value(&mut self, name: &str, inline: Option<String>, form: &str) -> Result<String, String> {
        let value = inline.or_else(|| self.0.next());
        value.ok_or_else(|| format!("--{name} has no value; give {form} after it"))
    }
}

/// `--name` or `--name=value`.
fn split(word: &str) -> Result<(&str, Option<String>), String> {
    let word = if word == "-h" { "--help" } else { word };
    let Some(option) = word.strip_prefix("--") else {
        return Err(format!("`{word}` is not expected here; every argument is --NAME VALUE (see --help)"));
    };
    Ok(match option.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (option, None),
    })
}

fn no_value(name: &str, inline: Option<String>, flag: &mut bool) -> Result<(), String> {
    *flag = true;
    inline.map_or(Ok(()), |value| Err(format!("--{name}={value}: it takes no value; give --{name} alone")))
}

fn pair<'a>(name: &str, text: &'a str, form: &str) -> Result<(&'a str, &'a str), String> {
    text.split_once(',').ok_or_else(|| format!("--{name} {text}: only one value; give {form}"))
}

fn number<N: FromStr>(name: &str, text: &str, form: &str) -> Result<N, String> {
    text.trim().parse().map_err(|_| format!("--{name} {text}: give {form}"))
}

fn within(name: &str, text: &str, range: std::ops::RangeInclusive<f64>, form: &str) -> Result<f64, String> {
    let value: f64 = number(name, text, form)?;
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(format!("--{name} {text}: out of range; give {form}"))
    }
}

fn percent(name: &str, text: &str) -> Result<f64, String> {
    within(name, text, 0.0..=100.0, "a percentage from 0 to 100").map(|percent| percent / 100.0)
}

fn millis(name: &str, text: &str) -> Result<Duration, String> {
    within(name, text, 0.0..=1e9, "milliseconds from 0 to 1000000000")
        .map(|ms| Duration::from_secs_f64(ms / 1e3))
}

fn seconds(name: &str, text: &str) -> Result<Duration, String> {
    within(name, text, 0.0..=1e6, "seconds from 0 to 1000000").map(Duration::from_secs_f64)
}

fn burst_loss(name: &str, text: &str) -> Result<BurstLoss, String> {
    let parts: Vec<_> = text.split(',').collect();
    let [good, bad, losses @ ..] = &parts[..] else {
        return Err(format!("--{name} {text}: only one value; give GOOD_MS,BAD_MS[,PERCENT[,PERCENT]]"));
    };
    if losses.len() > 2 {
        return Err(format!("--{name} {text}: too many values; give GOOD_MS,BAD_MS[,PERCENT[,PERCENT]]"));
    }
    let loss = |index: usize, default: f64| losses.get(index).map_or(Ok(default), |text| percent(name, text));
    let (mean_good, mean_bad) = (millis(name, good)?, millis(name, bad)?);
    Ok(BurstLoss { mean_good, mean_bad, loss_bad: loss(0, 1.0)?, loss_good: loss(1, 0.0)? })
}

const CODEL_FORM: &str = "TARGET_MS,INTERVAL_MS";

fn codel(name: &str, text: &str) -> Result<Codel, String> {
    let (target, interval) = pair(name, text, CODEL_FORM)?;
    // The sockets of the proxy do not carry the ECN field, so there is nobody to mark.
    Ok(Codel { target: millis(name, target)?, interval: millis(name, interval)?, ecn: false })
}

const POLICER_FORM: &str = "N,BYTES";

fn policer(name: &str, text: &str) -> Result<Policer, String> {
    let (rate, bucket) = pair(name, text, POLICER_FORM)?;
    let kbit = within(name, rate, 0.0..=1e9, "kbit/s from 0 to 1000000000")?;
    let bucket_bytes = number(name, bucket, "a whole number of bytes for the bucket")?;
    Ok(Policer { rate_bit_per_s: (kbit * 1e3) as u64, bucket_bytes })
}

fn address(name: &str, text: &str) -> Result<SocketAddr, String> {
    let advice = "give ADDR:PORT, as in 127.0.0.1:5000 or [::1]:5000";
    let mut found = text.to_socket_addrs().map_err(|error| format!("--{name} {text}: {error}; {advice}"))?;
    found.next().ok_or_else(|| format!("--{name} {text}: has no address; {advice}"))
}

fn destination(name: &str, text: &str) -> Result<SocketAddr, String> {
    match address(name, text)? {
        to if to.port() == 0 => {
            Err(format!("--{name} {text}: nobody is at port 0; give the port to send to"))
        }
        to => Ok(to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: &str = "--listen 127.0.0.1:0 --to 127.0.0.1:6000";

    fn run(line: &str) -> Result<Options, String> {
        match parse(split_line(&format!("{ENDS} {line}")))? {
            Command::Run(options) => Ok(*options),
            Command::Help => Err("help".into()),
        }
    }

    /// Splits at blanks outside of single quotes, as a shell would.
    fn split_line(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (index, part) in line.split('\'').enumerate() {
            match index % 2 {
                0 => words.extend(part.split_whitespace().map(str::to_owned)),
                _ => words.push(part.to_owned()),
            }
        }
        words
    }

    #[test]
    fn the_seeds_set_up_reads_as_its_parts() {
        let line =
            "--loss 50 --reorder=50 --bit-error 16 --delay-ms 2000 --rate-kbit 1000 --queue 8192 --seed 7";
        let options = run(line).unwrap();
        let expected = Impairments {
            loss: 0.5,
            reorder: 0.5,
            bit_error_rate: 16e-5,
            delay: Duration::from_secs(2),
            rate_bit_per_s: Some(1_000_000),
            queue_bytes: Some(8_192),
            ..Impairments::default()
        };
        assert_eq!((options.forward, options.seed), (expected, 7));
        assert!(options.back.is_none(), "one-way unless asked for");
    }

    #[test]
    fn the_way_back_is_none_perfect_the_same_or_its_own() {
        let loss = |line: &str| run(line).unwrap().back.map(|back| (back.loss, back.delay.as_millis()));
        assert_eq!(loss("--loss 10"), None);
        assert_eq!(loss("--loss 10 --two-way"), Some((0.0, 0)));
        assert_eq!(loss("--back same --loss 10 --delay-ms 5"), Some((0.1, 5)));
        assert_eq!(loss("--back-loss 20 --back same --loss 10 --delay-ms 5"), Some((0.2, 5)));
        assert_eq!(loss("--back '--loss 30 delay-ms=7'"), Some((0.3, 7)));
        assert_eq!(loss("--back-delay-ms 9"), Some((0.0, 9)));
        assert!(run("--back-jitter-reorder").unwrap().back.unwrap().jitter_reorder);
    }

    #[test]
    fn a_rate_without_a_queue_gets_a_tenth_of_a_second_of_one() {
        assert_eq!(run("--rate-kbit 10000").unwrap().forward.queue_bytes, Some(125_000));
        assert_eq!(run("--rate-kbit 100").unwrap().forward.queue_bytes, Some(8_192));
        assert_eq!(run("").unwrap().forward.queue_bytes, None);
    }

    #[test]
    fn schedules_and_bursts_read_as_lists() {
        let what =
            run("--blackout 1,0.5 --blackout 9,1 --outage 5,0.25 --rate-step 2,500 --burst-loss 200,2,90,1");
        let what = what.unwrap().forward;
        let ms = Duration::from_millis;
        let second = Window { from: Time::ZERO + ms(9_000), until: Time::ZERO + ms(10_000) };
        assert_eq!((what.blackouts.len(), what.blackouts[1]), (2, second));
        assert_eq!(what.outage, Some(Outage { every: ms(5_000), length: ms(250) }));
        let step = RateStep { at: Time::ZERO + ms(2_000), rate_bit_per_s: Some(500_000) };
        assert_eq!(what.rate_steps, [step]);
        let burst = BurstLoss { mean_good: ms(200), mean_bad: ms(2), loss_bad: 0.9, loss_good: 0.01 };
        assert_eq!(what.burst_loss, Some(burst));
    }

    #[test]
    fn queue_management_and_policing_read_as_pairs() {
        let options = run("--codel 20,200 --policer 1500,64000 --back-codel=5,100").unwrap();
        let codel = |target, interval| {
            let ms = Duration::from_millis;
            Some(Codel { target: ms(target), interval: ms(interval), ecn: false })
        };
        let policer = Policer { rate_bit_per_s: 1_500_000, bucket_bytes: 64_000 };
        assert_eq!((options.forward.codel, options.forward.policer), (codel(20, 200), Some(policer)));
        assert_eq!(options.back.unwrap().codel, codel(5, 100));
    }

    #[test]
    fn an_error_names_the_argument_the_value_and_the_remedy() {
        let table = [
            ("--loss 150", "--loss 150: out of range; give a percentage from 0 to 100"),
            ("--loss much", "--loss much: give a percentage from 0 to 100"),
            ("--loss NaN", "--loss NaN: out of range; give a percentage from 0 to 100"),
            ("--loss", "--loss has no value; give PERCENT after it"),
            ("--back-loss x", "--back-loss x: give a percentage from 0 to 100"),
            ("--back '--loss 101'", "--loss 101: out of range; give a percentage from 0 to 100"),
            ("--json=1", "--json=1: it takes no value; give --json alone"),
            ("--late 5", "--late 5: only one value; give PERCENT,MS"),
            ("--codel 5", "--codel 5: only one value; give TARGET_MS,INTERVAL_MS"),
            ("--codel 5,-1", "--codel -1: out of range; give milliseconds from 0 to 1000000000"),
            ("--policer 1000", "--policer 1000: only one value; give N,BYTES"),
            ("--policer x,9", "--policer x: give kbit/s from 0 to 1000000000"),
            ("--back-policer 1,x", "--back-policer x: give a whole number of bytes for the bucket"),
            ("--lose 5", "--lose is no option; see --help for those there are"),
            ("--to 127.0.0.1:0", "--to 127.0.0.1:0: nobody is at port 0; give the port to send to"),
            ("5", "`5` is not expected here; every argument is --NAME VALUE (see --help)"),
            ("--seed -1", "--seed -1: give a whole number from 0 to 2^64 - 1"),
        ];
        for (line, message) in table {
            assert_eq!(run(line).err().as_deref(), Some(message));
        }
        let error = parse(split_line("--to 127.0.0.1:1")).err().unwrap();
        assert!(error.starts_with("--listen is missing"), "{error}");
        let error = parse(split_line("--listen nonsense")).err().unwrap();
        assert!(error.starts_with("--listen nonsense: ") && error.contains("give ADDR:PORT"), "{error}");
    }

    #[test]
    fn the_help_names_every_option() {
        for line in HELP.lines().filter(|line| line.starts_with("  --")) {
            let name = line.trim_start().split([' ', '=']).next().unwrap().trim_start_matches("--");
            if ["back-NAME", "help", "listen", "to", "back", "seed", "duration-s", "two-way", "json"]
                .contains(&name)
            {
                continue;
            }
            let sample = if name == "jitter-reorder" { format!("--{name}") } else { format!("--{name} 1,1") };
            let one = run(&sample).err();
            let other = run(&sample.replace(",1", "")).err();
            assert!(one.is_none() || other.is_none(), "{name}: {one:?} {other:?}");
        }
    }
}
