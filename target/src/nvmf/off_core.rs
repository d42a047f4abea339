//! Work that would keep a core from its hosts, one piece after the other on a thread of its own: nobody who may not
//! even be allowed in can have more than that one thread.
use reactor::channel;
use std::sync::{OnceLock, mpsc};

type Job = Box<dyn FnOnce() + Send>;

/// Runs `work` elsewhere and waits for it. `None`: it panicked, or there is no thread.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = channel::bounded(1);
    let job: Job = Box::new(move || drop(done.try_send(work())));
    worker().as_ref()?.send(job).ok()?;
    result.recv().await
}

fn worker() -> &'static Option<mpsc::Sender<Job>> {
    static WORKER: OnceLock<Option<mpsc::Sender<Job>>> = OnceLock::new();
    WORKER.get_or_init(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        let work = move || {
            for job in queue {
                // A job that panics drops its channel, which tells whoever waits.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            }
        };
        let thread = std::thread::Builder::new().name("authentication".into()).spawn(work);
        thread
            .inspect_err(
                |error| tracing::error!(%error, "no thread for authentication: hosts with keys cannot connect"),
            )
            .ok()
            .map(|_| jobs)
    })
}
