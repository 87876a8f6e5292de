//! `oread doctor`: the preflight's table, and nothing else.

use serde_json::json;

use super::examine::{Preflight, check};
use crate::failure::Failure;
use crate::load::options::load::Load;
use crate::system::stdout;
use crate::values::target::{self, Resolved};
use crate::values::units::Count;

/// Prints the table of a load, as JSON or as words; gives the exit code: 4 where it can't be had.
///
/// # Errors
/// Exit code 1: a target does not resolve, or a source is not this machine's. Exit code 2: sources
/// of another family.
pub(crate) fn run(whole: &Load, as_json: bool) -> Result<u8, Failure> {
    let plan = &whole.own()?;
    let mut targets = target::resolve(&plan.targets)?;
    if targets.is_empty() {
        // The server of its own, which is not there.
        targets.push(Resolved::tcp(([127, 0, 0, 1], 0).into()));
    }
    let found = check(plan, &targets)?;
    stdout::say(&match as_json {
        true => json(plan, &found),
        false => table(plan, &found),
    })?;
    Ok(if found.shortfalls().is_empty() { 0 } else { 4 })
}

fn table(plan: &Load, found: &Preflight) -> String {
    let mut text = format!("{:<28} {:>14} {:>14}\n", "", "needed", "here");
    let (mut mends, mut allows) = (String::new(), "allows");
    for check in &found.checks {
        let (name, needed) = (check.name, check.show(check.needed));
        let here = check.here.map(|here| check.show(here));
        let here = here.as_deref().unwrap_or("no limit known");
        let mut word = "ok";
        if !check.is_met() {
            (word, allows) = ("SHORT", "does not allow");
            mends += &format!("{name}: {}\n", check.mend);
        }
        text += &format!("{name:<28} {needed:>14} {here:>14}  {word}\n");
    }
    let count = Count(plan.connections.get().into());
    let asked = match plan.targets.is_empty() {
        true => "",
        false => "; the target is not asked",
    };
    format!("{text}\n{mends}this machine {allows} {count} connections{asked}\n")
}

fn json(plan: &Load, found: &Preflight) -> String {
    let checks = found.checks.iter().map(|check| {
        json!({
            "name": check.name,
            "needed": check.needed,
            "here": check.here,
            "met": check.is_met(),
            "mend": (!check.is_met()).then_some(&check.mend),
        })
    });
    let value = json!({
        "connections": plan.connections,
        "reachable": found.shortfalls().is_empty(),
        "checks": checks.collect::<Vec<_>>(),
    });
    format!("{value}\n")
}
