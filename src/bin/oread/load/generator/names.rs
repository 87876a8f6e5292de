//! What errors are called in the report.

use std::io;

use nix::errno::Errno;
use oread::CloseReason;
use rustls::CertificateError as Certificate;
use rustls::{AlertDescription, Error, PeerIncompatible};

pub(crate) use crate::load::count::{CORRUPT, TOO_LATE};
use crate::load::exchange::tls::SIGNS_ITSELF;

/// The peer has ended a connection in order, though nobody had asked it to.
pub(crate) const CLOSED: &str = "closed by peer";
/// The same over TLS without a goodbye, `close_notify`: what it sent may have been cut.
pub(super) const TRUNCATED: &str = "closed by peer without close_notify";

/// An error by the system's name for it, `ECONNREFUSED`; by its words where there is none.
pub(crate) fn of_error(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => of_number(number),
        None => error.to_string(),
    }
}

/// An error's kind by the system's name, where no more than the kind is known.
pub(crate) fn of_kind(kind: io::ErrorKind) -> String {
    match kind {
        io::ErrorKind::ConnectionRefused => "ECONNREFUSED".to_owned(),
        io::ErrorKind::PermissionDenied => "EPERM".to_owned(),
        io::ErrorKind::NetworkUnreachable => "ENETUNREACH".to_owned(),
        io::ErrorKind::HostUnreachable => "EHOSTUNREACH".to_owned(),
        kind => kind.to_string(),
    }
}

/// What went wrong with TLS. No name holds anything that differs from one connection to the next.
pub(super) fn of_tls(error: &Error) -> String {
    use Certificate::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
        NotValidYet, NotValidYetContext, Revoked, UnknownIssuer,
    };
    let name = match error {
        Error::InvalidCertificate(why) => match why {
            Expired | ExpiredContext { .. } => "certificate expired",
            NotValidYet | NotValidYetContext { .. } => "certificate not valid yet",
            NotValidForName | NotValidForNameContext { .. } => "certificate for another name",
            UnknownIssuer => "unknown issuer",
            Revoked => "certificate revoked",
            BadSignature => "certificate with a bad signature",
            Certificate::Other(why) if why.to_string() == SIGNS_ITSELF => "self-signed certificate",
            _ => "certificate not valid",
        },
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        )
        | Error::AlertReceived(AlertDescription::ProtocolVersion) => "protocol version",
        Error::PeerIncompatible(_) => "nothing in common",
        Error::NoApplicationProtocol
        | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => "application protocol",
        Error::AlertReceived(alert) => return format!("alert {alert:?}"),
        Error::InvalidMessage(_) => "not TLS",
        // As one that echoes.
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "unexpected message"
        }
        Error::DecryptError => "a record that can't be opened",
        Error::PeerMisbehaved(_) => "the server went against the protocol",
        _ => "failed",
    };
    name.to_owned()
}

fn of_number(number: i32) -> String {
    match Errno::from_raw(number) {
        Errno::UnknownErrno => format!("errno {number}"),
        errno => format!("{errno:?}"),
    }
}

/// Why a connection ended that the load had not ended. `finished`: its peer had said so; `midway`:
/// in the middle of an answer.
pub(crate) fn of_loss(reason: CloseReason, finished: bool, midway: bool) -> String {
    match reason {
        _ if finished && midway => "closed by peer in mid-answer".to_owned(),
        _ if finished => CLOSED.to_owned(),
        CloseReason::Reset => "ECONNRESET".to_owned(),
        CloseReason::Failed(number) => of_number(number.into()),
        reason => reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_names_that_people_search_for() {
        let refused = io::Error::from_raw_os_error(Errno::ECONNREFUSED as i32);
        assert_eq!(of_error(&refused), "ECONNREFUSED");
        assert_eq!(of_kind(refused.kind()), "ECONNREFUSED");
        assert_eq!(of_error(&io::Error::from_raw_os_error(9999)), "errno 9999");
        assert_eq!(of_loss(CloseReason::Reset, false, true), "ECONNRESET");
        assert_eq!(of_loss(CloseReason::Reset, true, false), "closed by peer");
    }
}
