//! Work in parts.

use oread::{Accepted, Connection, Context, Handler, Pressure};

use super::peers::{ask, serve};

struct Count;

impl Handler for Count {
    type Session = u64; // how far it has counted
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, u64>, _: &Accepted) -> Option<u64> {
        Some(0)
    }

    fn on_data(&mut self, connection: &mut Connection<'_, u64>, data: &[u8]) -> usize {
        let Some(end) = data.iter().position(|&byte| byte == b'\n') else {
            return 0; // more of the line is to come
        };
        let most = std::str::from_utf8(&data[..end])
            .ok()
            .and_then(|text| text.parse().ok());
        let (from, most) = (*connection.session(), most.unwrap_or(0));
        for number in (from + 1..=most).take(1000) {
            if connection.pressure() != Pressure::Low {
                break;
            }
            writeln!(connection, "{number}");
            *connection.session_mut() = number;
        }
        connection.again(); // the rest of this one, or the next line
        if *connection.session() < most {
            return 0;
        }
        *connection.session_mut() = 0;
        end + 1
    }
}

#[test]
fn all_numbers_come_though_no_callback_writes_more_than_a_thousand() {
    let counted: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    let answer = serve(&mut Count, |address| ask(address, "20000\nx\n3\n"));
    assert!(answer == counted + "1\n2\n3\n", "{} bytes", answer.len());
}
