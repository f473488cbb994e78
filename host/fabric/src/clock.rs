//! The wall clock by SNTP (RFC 4330): stepped once, slewed afterwards.
//!
//! Without an answer the clock stays as the hardware set it, and asking goes on.

use crate::resolver::Resolver;
use rsntp::{AsyncSntpClient, Config};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

const NTP_PORT: u16 = 123;
const ANSWER: Duration = Duration::from_secs(3);
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// Between two agreements.
const POLL: Duration = Duration::from_secs(1024);
/// Further off than this, slewing would take hours: step instead.
const STEP: Duration = Duration::from_millis(500);

/// What to do about an offset (pure).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Correction {
    /// To this time since the epoch.
    Step(Duration),
    /// By microseconds.
    Slew(i64),
}

fn correct(local: Duration, offset_seconds: f64, first: bool) -> Option<Correction> {
    if !offset_seconds.is_finite() {
        return None;
    }
    let magnitude = Duration::try_from_secs_f64(offset_seconds.abs()).ok()?;
    if magnitude >= STEP || (first && magnitude >= Duration::from_millis(1)) {
        let target = if offset_seconds < 0.0 {
            local.checked_sub(magnitude)?
        } else {
            local.checked_add(magnitude)?
        };
        return Some(Correction::Step(target));
    }
    let micros = i64::try_from(magnitude.as_micros()).ok()?;
    Some(Correction::Slew(if offset_seconds < 0.0 {
        -micros
    } else {
        micros
    }))
}

/// Keeps the clock right; tells once it has been.
pub(crate) async fn keep(
    mut servers: watch::Receiver<Vec<String>>,
    resolver: Resolver,
    synchronized: watch::Sender<bool>,
) {
    let mut first = true;
    let mut retry = FIRST_RETRY;
    loop {
        let names = servers.borrow_and_update().clone();
        let wait = match ask_all(&names, &resolver).await {
            Some(offset) => {
                apply(offset, first);
                first = false;
                retry = FIRST_RETRY;
                synchronized.send_replace(true);
                POLL
            }
            None => {
                let wait = retry;
                retry = (retry * 2).min(LONGEST_RETRY);
                wait
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = servers.changed() => {
                if changed.is_err() {
                    return;
                }
                retry = FIRST_RETRY;
            }
        }
    }
}

/// The offset by the first server that answers, in seconds.
async fn ask_all(names: &[String], resolver: &Resolver) -> Option<f64> {
    for name in names {
        let addresses = match resolver.lookup(name).await {
            Ok(addresses) => addresses,
            Err(error) => {
                log::debug!("time: {error}");
                continue;
            }
        };
        for address in addresses.into_iter().take(4) {
            match ask(address).await {
                Ok(offset) => {
                    log::debug!("time: {name} ({address}) says {offset:.6} s");
                    return Some(offset);
                }
                Err(error) => log::debug!("time: {name} ({address}): {error}"),
            }
        }
    }
    None
}

async fn ask(server: IpAddr) -> Result<f64, rsntp::SynchronizationError> {
    let local: IpAddr = if server.is_ipv6() {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    let config = Config::default()
        .bind_address(SocketAddr::new(local, 0))
        .timeout(ANSWER);
    let client = AsyncSntpClient::with_config(config);
    let result = client
        .synchronize(SocketAddr::new(server, NTP_PORT))
        .await?;
    Ok(result.clock_offset().as_secs_f64())
}

fn apply(offset: f64, first: bool) {
    let local = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let done = match correct(local, offset, first) {
        Some(Correction::Step(target)) => {
            log::info!("time: clock stepped by {offset:.3} s");
            sys::clock::set(target)
        }
        Some(Correction::Slew(micros)) => sys::clock::slew(micros),
        None => return,
    };
    let done = done.and_then(|()| sys::clock::mark_synchronized(500_000));
    if let Err(error) = done {
        log::error!("time: the clock can't be set: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_stepped_at_first_and_slewed_later() {
        let local = Duration::from_secs(1000);
        for (offset, first, wanted) in [
            (
                3600.0,
                true,
                Some(Correction::Step(Duration::from_secs(4600))),
            ),
            (
                -10.0,
                false,
                Some(Correction::Step(Duration::from_secs(990))),
            ),
            (
                0.25,
                true,
                Some(Correction::Step(Duration::from_millis(1_000_250))),
            ),
            (0.25, false, Some(Correction::Slew(250_000))),
            (-0.25, false, Some(Correction::Slew(-250_000))),
            (0.0, true, Some(Correction::Slew(0))),
            (-2000.0, true, None),
            (f64::NAN, true, None),
            (f64::INFINITY, true, None),
            (1e300, true, None),
        ] {
            assert_eq!(correct(local, offset, first), wanted, "{offset} {first}");
        }
    }
}
