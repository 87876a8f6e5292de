//! What one run of a simulation is made of, in a form that fits into a line.

use std::fmt;
use std::str::FromStr;

use super::Fault;

/// Stands for no fault at all.
const NONE: &str = "none";

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

    /// Whether this fault may happen.
    pub(super) fn allows(&self, fault: Fault) -> bool {
        let faults = self.faults.as_deref();
        faults.is_none_or(|faults| faults.contains(&fault))
    }

    /// The most that is drawn of a kind.
    pub(super) fn cap(&self, cap: Cap) -> u64 {
        match cap {
            Cap::Count => self.count,
            Cap::Size => self.size,
        }
    }

    /// The same with another cap.
    pub(super) fn with_cap(&self, cap: Cap, most: u64) -> Plan {
        let mut plan = self.clone();
        match cap {
            Cap::Count => plan.count = most,
            Cap::Size => plan.size = most,
        }
        plan
    }
}

/// What can be drawn smaller.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cap {
    Count,
    Size,
}

impl Cap {
    /// The least that can be drawn.
    pub(super) fn least(self) -> u64 {
        match self {
            Cap::Count => 1,
            Cap::Size => 0,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed={}", self.seed)?;
        if let Some(faults) = &self.faults {
            let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
            let names = if names.is_empty() {
                NONE.to_owned()
            } else {
                names.join("+")
            };
            write!(f, " faults={names}")?;
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
        let (mut plan, mut seed) = (Plan::new(0), None);
        for word in words.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or(("seed", word));
            let number = || {
                let number = value.parse::<u64>();
                number.map_err(|error| format!("{word:?}: {error}"))
            };
            match name {
                "seed" => seed = Some(number()?),
                "count" => plan.count = number()?,
                "size" => plan.size = number()?,
                "faults" => {
                    let names = value
                        .split('+')
                        .filter(|name| !name.is_empty() && value != NONE);
                    plan.faults = Some(names.map(fault_named).collect::<Result<_, _>>()?);
                }
                _ => return Err(format!("{word:?} is none of seed, faults, count and size")),
            }
        }
        let none = || format!("no seed is in {words:?}, as in 'seed=17 faults=read-short'");
        plan.seed = seed.ok_or_else(none)?;
        Ok(plan)
    }
}

fn fault_named(name: &str) -> Result<Fault, String> {
    let mut all = Fault::ALL.iter().copied();
    all.find(|fault| fault.name() == name).ok_or_else(|| {
        let hint = match name.contains([',', ';', '|']) {
            true => " (several are written with a `+` between them)",
            false => "",
        };
        format!("no fault is called {name:?}{hint}")
    })
}
