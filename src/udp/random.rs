//! Chance, once per endpoint: everything random above is derived from one seed.

use std::io;

/// 32 bytes from the kernel's generator. May block early in boot, until the generator is ready.
///
/// # Errors
/// When the kernel gives none; an endpoint must not start with predictable sequence numbers instead.
pub fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| {
        let source = error
            .raw_os_error()
            .map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error);
        io::Error::new(source.kind(), format!("no randomness from the kernel: {source}"))
    })?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_seeds_differ() {
        assert_ne!(seed().unwrap(), seed().unwrap());
    }
}
