use clap::Parser as _;

use super::*;
use crate::commands::{Args, Command};

fn serve(arguments: &str) -> Result<Serve, Failure> {
    match Args::try_parse_from(format!("oread serve {arguments}").split_whitespace())
        .unwrap()
        .command
    {
        Command::Serve(typed) => Serve::new(*typed, &[]),
        _ => panic!("not serve"),
    }
}

#[test]
fn the_defaults_are_those_of_the_help() {
    let serve = serve("").unwrap();
    assert_eq!(serve.endpoints[0].address.to_string(), "127.0.0.1:9999");
    assert_eq!(
        (serve.max_frame.get(), serve.high_water.get()),
        (1 << 20, 64 << 10)
    );
    assert_eq!((serve.backlog.get(), serve.threads.get()), (4096, 1));
    assert_eq!(serve.max_pending.get(), 1 << 30);
    assert_eq!(
        (
            serve.bounds.idle_timeout.0,
            serve.stats,
            serve.max_connections
        ),
        (None, None, None)
    );
    assert_eq!(
        [serve.bounds.write_timeout, serve.drain_timeout].map(|time| time.as_secs()),
        [60, 5]
    );
    assert_eq!(serve.verbosity, Verbosity::Normal);
}

#[test]
fn a_typed_maximum_must_fit_the_framing_and_the_default_bends_to_it() {
    let max = |arguments| serve(arguments).map(|serve| serve.max_frame.get());
    assert_eq!(max("--framing length:u8"), Ok(255));
    assert_eq!(max("--framing length:u16le --max-frame 65535"), Ok(65_535));
    assert_eq!(max("--framing length:u64 --max-frame 2GiB"), Ok(1 << 31));
    assert_eq!(max("--framing fixed:2000000"), Ok(2_000_000));
    let over = max("--framing length:u8 --max-frame 256").unwrap_err();
    assert!(
        over.code() == 2 && over.to_string().contains("length:u8 can say: 255 bytes"),
        "{over}"
    );
    let under = max("--framing fixed:100 --max-frame 99").unwrap_err();
    assert!(
        under.code() == 2 && under.to_string().contains("fixed:100"),
        "{under}"
    );
}

#[test]
fn one_connection_may_not_be_allowed_more_than_all_of_them() {
    let refused = serve("--high-water 2MiB --max-pending 1MiB").unwrap_err();
    assert!(
        refused.code() == 2 && refused.to_string().contains("over --max-pending 1 MiB"),
        "{refused}"
    );
    assert_eq!(serve("--max-pending 1KiB").unwrap().high_water.get(), 1024);
}

#[test]
fn datagrams_are_capped_where_other_machines_ask_unless_it_is_said_otherwise() {
    let rates = |arguments: &str, ip: &str| {
        let rates = serve(arguments).unwrap().udp_rates(ip.parse().unwrap());
        [rates.all, rates.per_source, rates.repeats].map(|rate| rate.map(NonZeroU32::get))
    };
    assert_eq!(rates("", "127.0.0.1"), [None, None, Some(1000)]);
    assert_eq!(rates("", "0.0.0.0"), [Some(10_000), Some(100), None]);
    assert_eq!(
        rates("--udp-rate off --udp-rate-per-source 1k", "::"),
        [None, Some(1000), None]
    );
    assert_eq!(rates("--udp-rate 5", "::1"), [Some(5), None, Some(1000)]);
    assert_eq!(
        rates("--udp-rate-per-source off", "::"),
        [Some(10_000), None, Some(1000)]
    );
    assert_eq!(
        rates("--udp-repeat-rate off", "127.0.0.1"),
        [None, None, None]
    );
    assert_eq!(
        rates("--udp-repeat-rate 7", "::"),
        [Some(10_000), Some(100), Some(7)]
    );
}

#[test]
fn more_v_says_more_and_ends_at_messages() {
    for (arguments, expected) in [
        ("-q", Verbosity::Quiet),
        ("-v", Verbosity::Connections),
        ("-vv", Verbosity::Messages),
        ("-vvv", Verbosity::Messages),
    ] {
        assert_eq!(serve(arguments).unwrap().verbosity, expected, "{arguments}");
    }
}

#[test]
fn permissions_are_refused_where_there_is_no_file() {
    assert!(serve("--unix /run/x --unix-mode 600").is_ok());
    let refused = serve("--unix /run/x --unix @y --unix-mode 600").unwrap_err();
    assert!(
        refused.code() == 2 && refused.to_string().contains("unix:@y has none"),
        "{refused}"
    );
}
