//! Threads of the program: each has a name.

use std::thread::{Builder, JoinHandle};

use oread::{Handle, Handler, Reactor};

use crate::failure::{Failure, Reason};

/// Starts a thread that is called `name`.
///
/// # Errors
/// Exit code 1: the system gives no thread.
pub(crate) fn start<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Failure> {
    let started = Builder::new().name(name.to_owned()).spawn(run);
    started.map_err(|error| Failure::no_thread(&error))
}

/// A reactor that runs in a thread of its own. Dropping this stops it, and waits for its end.
#[derive(Debug)]
pub(crate) struct ReactorThread<M> {
    name: &'static str,
    handle: Handle<M>,
    thread: Option<JoinHandle<()>>,
}

impl<M: Send + 'static> ReactorThread<M> {
    /// Runs `handler` in a thread that is called `name`. Whenever its reactor was stopped,
    /// `on_stop` says whether it goes on. A reactor that fails is logged.
    ///
    /// # Errors
    /// As [`start`].
    pub(crate) fn start<H: Handler<Message = M> + Send + 'static>(
        name: &'static str,
        mut reactor: Reactor<H>,
        mut handler: H,
        mut on_stop: impl FnMut() -> bool + Send + 'static,
    ) -> Result<ReactorThread<M>, Failure>
    where
        H::Session: Send,
    {
        let handle = reactor.handle();
        let run = move || {
            loop {
                match reactor.run(&mut handler) {
                    Ok(_) if on_stop() => {}
                    Ok(_) => break,
                    Err(error) => {
                        log::error!("the thread \"{name}\" has failed: {}", Reason(&error));
                        break;
                    }
                }
            }
        };
        Ok(ReactorThread {
            name,
            handle,
            thread: Some(start(name, run)?),
        })
    }
}

impl<M> ReactorThread<M> {
    /// Stops the reactor; see [`ReactorThread::start`].
    pub(crate) fn stop(&self) {
        self.handle.stop();
    }
}

impl<M> Drop for ReactorThread<M> {
    fn drop(&mut self) {
        self.handle.stop();
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            log::error!("the thread \"{}\" panicked", self.name);
        }
    }
}
