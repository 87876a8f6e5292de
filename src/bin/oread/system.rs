//! What only a program owns, and a library leaves alone.
//!
//! | file | what it is |
//! |---|---|
//! | `system/logging` | the logger |
//! | `system/stdout`, `system/stderr` | standard output and standard error |
//! | `system/outlet` | an output that may fail and work again |
//! | `system/files` | files that a long run ends with |
//! | `system/page` | a page of labelled lines for standard output |
//! | `system/signals` | SIGINT and SIGTERM |
//! | `system/descriptors` | the limit of file descriptors |
//! | `system/machine` | what this machine allows: limits, ports, memory |
//! | `system/environment` | where this program runs, and how it was called |
//! | `system/handed` | sockets that a service manager hands over, and what it is told |
//! | `system/metrics` | counters for Prometheus, over HTTP |
//! | `system/threads` | threads with names, and what they use of processors |
//! | `system/timer` | a timer descriptor |
//! | `system/udp_drops` | datagrams that this process's own sockets dropped |

pub(crate) mod descriptors;
pub(crate) mod environment;
pub(crate) mod files;
pub(crate) mod handed;
pub(crate) mod logging;
pub(crate) mod machine;
pub(crate) mod metrics;
pub(crate) mod outlet;
pub(crate) mod page;
pub(crate) mod signals;
pub(crate) mod stderr;
pub(crate) mod stdout;
pub(crate) mod threads;
pub(crate) mod timer;
pub(crate) mod udp_drops;
