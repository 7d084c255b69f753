//! A task that dies takes along what cannot do without it. In: how a task has ended. Out: its panic, once more.

use tokio::task::JoinError;

/// Passes a panic on; a task that was cancelled is no reason to.
pub fn pass_on(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}
