//! `udpl`: the emulator as a UDP proxy in real time; `udpl --help` tells how to use it.

#[path = "udpl/args.rs"]
mod args;
#[path = "udpl/clients.rs"]
mod clients;
#[path = "udpl/proxy.rs"]
mod proxy;
#[path = "udpl/report.rs"]
mod report;

use args::{Command, HELP, Options};
use proxy::Proxy;
use rtcp::udp::Termination;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let outcome = match args::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => io::stdout().write_all(HELP.as_bytes()),
        Ok(Command::Run(options)) => run(&options),
        Err(message) => {
            eprintln!("udpl: {message}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("udpl: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    let termination = Termination::catch()?;
    let mut proxy = Proxy::bind(options).map_err(|error| {
        let advice = "take an address of this machine and a free port, or port 0";
        io::Error::new(error.kind(), format!("--listen {}: {error}; {advice}", options.listen))
    })?;
    let listen = proxy.local_addr()?;
    say(&format!("listening {listen}"))?;
    let start = Instant::now();
    proxy.run(&termination, options.duration.map(|duration| start + duration))?;
    report(&proxy, options, listen, start.elapsed())
}

fn report(proxy: &Proxy, options: &Options, listen: SocketAddr, elapsed: Duration) -> io::Result<()> {
    eprintln!("udpl: forward: {}", report::words(&proxy.forward));
    if let Some(back) = &proxy.back {
        eprintln!("udpl: back: {}", report::words(back));
    }
    if options.json {
        let back = proxy.back.as_ref().map_or_else(|| "null".to_owned(), report::json);
        say(&format!(
            "{{\"listen\":\"{listen}\",\"to\":\"{}\",\"seed\":{},\"seconds\":{:.6},\"clients\":{},\"forward\":{},\
             \"back\":{back}}}",
            options.to,
            options.seed,
            elapsed.as_secs_f64(),
            proxy.clients_seen(),
            report::json(&proxy.forward),
        ))?;
    }
    Ok(())
}

/// A line on stdout. `println!` would panic when the reader has gone.
fn say(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
