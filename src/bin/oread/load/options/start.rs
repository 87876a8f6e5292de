//! When traffic begins, where several machines are to begin together.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::failure::Failure;
use crate::load::clock::nanos;
use crate::values::units::{duration_or_zero, short};

/// When the job began that this process is a part of, as Slurm says it: seconds since 1970.
const JOB_BEGAN: &str = "SLURM_JOB_START_TIME";

/// What `--start-at` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartAt {
    /// At that time.
    Time(SystemTime),
    /// So long after the job has begun, or this process where nobody says when that was.
    After(Duration),
}

impl FromStr for StartAt {
    type Err = String;

    fn from_str(text: &str) -> Result<StartAt, String> {
        if let Some(after) = text.strip_prefix('+') {
            return duration_or_zero(after).map(StartAt::After);
        }
        let time = humantime::parse_rfc3339(text);
        time.map(StartAt::Time).map_err(|_| {
            "write a time as in 2026-12-01T12:00:00Z, or a time behind the job's start as in +30s"
                .to_owned()
        })
    }
}

impl StartAt {
    /// The time, by the clock, of a process that begins at `now`.
    ///
    /// # Errors
    /// Exit code 2: it has passed, or there is no such time.
    pub(crate) fn time(
        self,
        now: SystemTime,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<SystemTime, Failure> {
        let job = || {
            let seconds: u64 = environment(JOB_BEGAN)?.trim().parse().ok()?;
            UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
        };
        let time = match self {
            StartAt::Time(time) => Some(time),
            StartAt::After(after) => job().unwrap_or(now).checked_add(after),
        };
        let Some(time) = time else {
            return Err(Failure::usage("--start-at is later than clocks go"));
        };
        match now.duration_since(time) {
            Ok(ago) if !ago.is_zero() => {
                let words = format!("--start-at was {} ago", short(nanos(ago)));
                let tip = "give a time that all machines can be ready by: connections come before";
                Err(Failure::usage(words).hint(tip))
            }
            _ => Ok(time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_a_time_or_so_long_after_the_job_s_own() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |text: &str, job: Option<&str>| {
            let start: StartAt = text.parse().unwrap();
            let time = start.time(now, |name| {
                job.filter(|_| name == JOB_BEGAN).map(Into::into)
            });
            let time = time.map_err(|failure| failure.to_string())?;
            Ok::<u64, String>(time.duration_since(UNIX_EPOCH).unwrap().as_secs())
        };
        assert_eq!(at("+30s", None), Ok(1_000_030));
        assert_eq!(at("+30s", Some("999990")), Ok(1_000_020));
        assert_eq!(at("+0s", None), Ok(1_000_000));
        assert_eq!(at("1970-01-12T13:46:41Z", None), Ok(1_000_001));
        assert!(
            at("+5s", Some("999990"))
                .unwrap_err()
                .contains("was 5s ago")
        );
        assert!(
            at("1970-01-12T13:46:39Z", None)
                .unwrap_err()
                .contains("was 1s ago")
        );
        for text in ["30s", "+x", "tomorrow", ""] {
            assert!(text.parse::<StartAt>().is_err(), "{text}");
        }
    }
}
