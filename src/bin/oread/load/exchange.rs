//! What is said on a connection: questions, answers, and which questions come when. Nothing here
//! knows a socket or the time.
//!
//! | file | what it is |
//! |---|---|
//! | `exchange/answer` | where an answer ends |
//! | `exchange/found` | what was found of one |
//! | `exchange/http`, `exchange/resp` | the same, of HTTP and of Redis |
//! | `exchange/expect` | what an answer must hold |
//! | `exchange/template` | a question, with places that are filled in anew for each |
//! | `exchange/script` | the questions of a connection, in their order |
//! | `exchange/session` | a script, written as a file |
//! | `exchange/tls` | tickets of TLS sessions, and certificates that are taken unseen |

pub(crate) mod answer;
pub(crate) mod expect;
pub(crate) mod found;
mod http;
mod resp;
pub(crate) mod script;
pub(crate) mod session;
pub(crate) mod template;
pub(crate) mod tls;
