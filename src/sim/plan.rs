//! What one run of a simulation is made of, in a form that fits into a line.

use std::fmt;
use std::str::FromStr;

use super::Fault;

/// A seed, and how far the run that it stands for is cut down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// The only faults that may happen; `None`: all that the seed draws.
    pub(super) faults: Option<Vec<Fault>>,
    /// The most that [`World::count`](super::World::count) draws.
    pub(super) count: u64,
    /// The most that [`World::size`](super::World::size) draws.
    pub(super) size: u64,
}

impl Plan {
    /// The whole run of a seed.
    pub(super) fn new(seed: u64) -> Plan {
        Plan {
            seed,
            faults: None,
            count: u64::MAX,
            size: u64::MAX,
        }
    }

    /// Smaller plans to try, those that cut most off first. `met` are the faults that the run has
    /// met.
    pub(super) fn smaller(&self, met: &[Fault]) -> Vec<Plan> {
        let mut plans = Vec::new();
        let mut with = |faults: Vec<Fault>| {
            if self.faults.as_ref() != Some(&faults) {
                plans.push(Plan {
                    faults: Some(faults),
                    ..self.clone()
                });
            }
        };
        with(Vec::new());
        with(met.to_vec());
        if met.len() > 1 {
            for left_out in met {
                with(met.iter().copied().filter(|met| met != left_out).collect());
            }
        }
        for count in [1, 2, 4].into_iter().filter(|&count| count < self.count) {
            plans.push(Plan {
                count,
                ..self.clone()
            });
        }
        for size in [1, 100, 10_000]
            .into_iter()
            .filter(|&size| size < self.size)
        {
            plans.push(Plan {
                size,
                ..self.clone()
            });
        }
        plans
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed={}", self.seed)?;
        if let Some(faults) = &self.faults {
            let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
            write!(f, " faults={}", names.join("+"))?;
        }
        for (name, most) in [("count", self.count), ("size", self.size)] {
            if most < u64::MAX {
                write!(f, " {name}={most}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(words: &str) -> Result<Plan, String> {
        let mut plan = Plan::new(0);
        for word in words.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or(("seed", word));
            let number = || {
                let number = value.parse::<u64>();
                number.map_err(|error| format!("{word:?}: {error}"))
            };
            match name {
                "seed" => plan.seed = number()?,
                "count" => plan.count = number()?,
                "size" => plan.size = number()?,
                "faults" => {
                    let names = value.split('+').filter(|name| !name.is_empty());
                    let faults = names.map(|name| {
                        let fault = Fault::ALL.iter().find(|fault| fault.name() == name);
                        fault
                            .copied()
                            .ok_or_else(|| format!("no fault is called {name:?}"))
                    });
                    plan.faults = Some(faults.collect::<Result<_, _>>()?);
                }
                _ => return Err(format!("{word:?} is none of seed, faults, count and size")),
            }
        }
        Ok(plan)
    }
}
