//! `oread doctor`: the preflight's table, and nothing else.

use std::fmt::Write as _;

use serde_json::json;

use super::check::Wish;
use super::examine::{Preflight, examine};
use super::machine::Machine;
use crate::failure::Failure;
use crate::load::options::args;
use crate::load::options::target::{self, Resolved, Transport};
use crate::system::stdout;
use crate::values::units::Count;

/// Prints the table; gives the exit code: 4 where the connections can't be reached.
///
/// # Errors
/// Exit code 1: a target does not resolve, or a source is not this machine's. Exit code 2: sources
/// of another family.
pub(crate) fn run(typed: &args::Doctor) -> Result<u8, Failure> {
    let own_server = typed.targets.is_empty();
    let mut targets = target::resolve(&typed.targets)?;
    if own_server {
        targets.push(Resolved {
            transport: Transport::Tcp,
            address: ([127, 0, 0, 1], 0).into(),
        });
    }
    let wish = Wish {
        connections: typed.connections,
        threads: typed.threads,
        own_server,
        sources: &typed.source,
        ..Wish::of_one(&targets)
    };
    let found = examine(&wish, &Machine::here()?)?;
    let code = if found.shortfalls().is_empty() { 0 } else { 4 };
    stdout::say(&if typed.json {
        as_json(&wish, &found, code)
    } else {
        as_table(&wish, &found)
    })?;
    Ok(code)
}

fn as_table(wish: &Wish<'_>, found: &Preflight) -> String {
    let mut text = format!("{:<28} {:>14} {:>14}\n", "", "needed", "here");
    for check in &found.checks {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:<28} {:>14} {:>14}  {}",
            check.name,
            check.show(check.needed),
            check
                .here
                .map_or_else(|| "no limit known".to_owned(), |here| check.show(here)),
            if check.is_met() { "ok" } else { "SHORT" }
        );
    }
    text.push('\n');
    if found.shortfalls().is_empty() {
        let count = Count(wish.connections.get().into());
        let _ = writeln!(text, "{count} connections can be reached");
    }
    for check in found.checks.iter().filter(|check| !check.is_met()) {
        for (index, mend) in check.mends.iter().enumerate() {
            let or = if index > 0 { "or " } else { "" };
            let _ = writeln!(text, "{}: {or}{mend}", check.name);
        }
    }
    text
}

fn as_json(wish: &Wish<'_>, found: &Preflight, code: u8) -> String {
    let checks = found.checks.iter().map(|check| {
        json!({
            "name": check.name,
            "needed": check.needed,
            "here": check.here,
            "met": check.is_met(),
            "mend": (!check.is_met()).then(|| check.mend()),
        })
    });
    let value = json!({
        "connections": wish.connections,
        "reachable": code == 0,
        "checks": checks.collect::<Vec<_>>(),
    });
    format!("{value}\n")
}
