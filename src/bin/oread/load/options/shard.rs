//! Which part of a load this process has, where it's done by several machines: what was given, or
//! what the engine says that started it.

use std::num::NonZeroU32;
use std::str::FromStr;

use crate::failure::Failure;

/// The most shards: as many machines as one batch system has under it.
const MOST: u32 = 1 << 16;
/// The engines whose processes know which they are, and of how many, by these names.
const ENGINES: [(&str, &str, &str); 3] = [
    ("Slurm", "SLURM_PROCID", "SLURM_NTASKS"),
    ("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI", "PMI_RANK", "PMI_SIZE"),
];
/// And one that knows only which they are.
const KUBERNETES: (&str, &str) = ("Kubernetes", "JOB_COMPLETION_INDEX");

/// Which part of a load a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    /// From 0 on.
    pub(crate) index: u32,
    /// How many there are.
    pub(crate) of: NonZeroU32,
    /// Who says so.
    pub(crate) by: &'static str,
}

/// What `--shard` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// `none`: the whole load.
    Whole,
    /// `I/N`.
    Part(u32, NonZeroU32),
    /// `/N`: which it is the engine knows.
    OneOf(NonZeroU32),
}

impl FromStr for Given {
    type Err = String;

    fn from_str(text: &str) -> Result<Given, String> {
        if text == "none" {
            return Ok(Given::Whole);
        }
        let words =
            || "write I/N, as in 0/4 to 3/4, or /N where the engine says which it is, or none";
        let (index, of) = text.split_once('/').ok_or_else(words)?;
        let of: NonZeroU32 = of.parse().map_err(|_| words())?;
        if of.get() > MOST {
            return Err(format!("there are {MOST} shards at most"));
        }
        if index.is_empty() {
            return Ok(Given::OneOf(of));
        }
        let index: u32 = index.parse().map_err(|_| words())?;
        match index < of.get() {
            true => Ok(Given::Part(index, of)),
            false => Err(format!(
                "they count from 0: the last of {of} is {}",
                of.get() - 1
            )),
        }
    }
}

/// The part that was given, or that the engine which runs this process knows of, by its
/// environment; `None`: the whole load.
///
/// # Errors
/// Exit code 2: the engine was to say which it is, and doesn't; or what it says makes no sense.
pub(crate) fn here(
    given: Option<Given>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Option<Shard>, Failure> {
    let number = |name: &str| -> Result<Option<u32>, Failure> {
        let Some(text) = environment(name) else {
            return Ok(None);
        };
        let words = || format!("{name}, which the environment says, is no number: {text:?}");
        let tip = "say which part this is by --shard I/N, or --shard none for all of it";
        let number = text.trim().parse();
        number
            .map(Some)
            .map_err(|_| Failure::usage(words()).hint(tip))
    };
    let of = match given {
        Some(Given::Whole) => return Ok(None),
        Some(Given::Part(index, of)) => {
            return Ok(Some(Shard {
                index,
                of,
                by: "--shard",
            }));
        }
        Some(Given::OneOf(of)) => Some(of),
        None => None,
    };
    let engines = ENGINES.map(|(by, index, count)| (by, index, Some(count)));
    let others = [(KUBERNETES.0, KUBERNETES.1, None)];
    for (by, index_name, count) in engines.into_iter().chain(others) {
        let Some(index) = number(index_name)? else {
            continue;
        };
        let told = count.map(&number).transpose()?.flatten();
        let Some(of) = of.or_else(|| NonZeroU32::new(told.filter(|&it| it > 1)?)) else {
            continue;
        };
        if index >= of.get() || of.get() > MOST {
            let words = format!("{by} says that this is part {index} of {of} ({index_name})");
            let tip = "they count from 0; say it by --shard I/N, or --shard none for all of it";
            return Err(Failure::usage(words).hint(tip));
        }
        return Ok(Some(Shard { index, of, by }));
    }
    let names = ENGINES.map(|(_, index, _)| index).join(", ");
    match of {
        Some(of) => {
            let words = format!("--shard /{of}: no engine says which of them this is");
            let tip = format!("it's in {names} or {}; or write I/{of}", KUBERNETES.1);
            Err(Failure::usage(words).hint(tip))
        }
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(given: &str, environment: &[(&str, &str)]) -> Result<Option<Shard>, String> {
        let given = (!given.is_empty()).then(|| given.parse().unwrap());
        let variable = |name: &str| {
            let mut all = environment.iter();
            all.find(|it| it.0 == name).map(|it| it.1.to_owned())
        };
        here(given, variable).map_err(|failure| failure.to_string())
    }

    fn shard(index: u32, of: u32, by: &'static str) -> Result<Option<Shard>, String> {
        let of = NonZeroU32::new(of).unwrap();
        Ok(Some(Shard { index, of, by }))
    }

    #[test]
    fn a_shard_is_what_was_given_or_what_the_engine_says() {
        let slurm = [("SLURM_PROCID", "2"), ("SLURM_NTASKS", "4")];
        let mpi = [("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "2")];
        let pmi = [("PMI_RANK", "1"), ("PMI_SIZE", "3")];
        let job = [("JOB_COMPLETION_INDEX", "5")];
        assert_eq!(found("", &[]), Ok(None));
        assert_eq!(found("", &slurm), shard(2, 4, "Slurm"));
        assert_eq!(found("", &mpi), shard(0, 2, "Open MPI"));
        assert_eq!(found("", &pmi), shard(1, 3, "PMI"));
        assert_eq!(found("none", &slurm), Ok(None));
        assert_eq!(found("1/2", &slurm), shard(1, 2, "--shard"));
        assert_eq!(found("/8", &slurm), shard(2, 8, "Slurm"));
        assert_eq!(found("/8", &job), shard(5, 8, "Kubernetes"));
        // How many there are nobody says; and one task alone is the whole.
        assert_eq!(found("", &job), Ok(None));
        assert_eq!(
            found("", &[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "1")]),
            Ok(None)
        );
        assert!(found("/8", &[]).unwrap_err().contains("no engine says"));
        assert!(found("/4", &job).unwrap_err().contains("part 5 of 4"));
        let wrong = [("SLURM_PROCID", "x"), ("SLURM_NTASKS", "4")];
        assert!(found("", &wrong).unwrap_err().contains("SLURM_PROCID"));
    }

    #[test]
    fn what_is_no_shard_is_told() {
        for (text, words) in [
            ("4/4", "the last of 4 is 3"),
            ("1", "write I/N"),
            ("1/0", "write I/N"),
            ("x/4", "write I/N"),
            ("-1/4", "write I/N"),
            ("0/99999", "65536 shards at most"),
        ] {
            let told = text.parse::<Given>().unwrap_err();
            assert!(told.contains(words), "{text}: {told}");
        }
    }
}
