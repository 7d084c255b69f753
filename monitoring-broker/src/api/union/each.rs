//! Asks all other members at once. In: a question. Out: the answers of those that know the device, and whether one
//! is missing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::link::Link;
use super::{Others, ServiceError};

/// An answer that needs longer is left out. Pings find out earlier who hangs.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Each<T> {
    pub(super) given: Vec<(Arc<Link>, T)>,
    /// Why a member is missing.
    pub(super) missing: Option<ServiceError>,
}

impl<T> Each<T> {
    /// What is said when nobody knows the device.
    pub(super) fn nobody(self, device: &str) -> ServiceError {
        let unknown = || ServiceError::unknown_device(device);
        self.missing.unwrap_or_else(unknown)
    }
}

impl Others {
    /// # Errors
    /// What any member finds wrong with the question.
    pub(super) async fn each<T, F>(
        &self,
        ask: impl Fn(Arc<Link>) -> F,
    ) -> Result<Each<T>, ServiceError>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        let present = self.present();
        let answers = present.links.into_iter().map(|link| {
            let answer = ask(Arc::clone(&link));
            async move { (link, answer.await) }
        });
        let missing = present.silent.map(|member| {
            let why = format!("the member {member} of the pool has not said how it is reached");
            ServiceError::Unreachable(why)
        });
        let mut each = Each {
            given: Vec::new(),
            missing,
        };
        for (link, answer) in join_all(answers).await {
            match answer {
                Ok(answer) => each.given.push((link, answer)),
                Err(ServiceError::UnknownDevice(_)) => {}
                Err(error @ ServiceError::Invalid { .. }) => return Err(error),
                Err(error) => each.missing = Some(error),
            }
        }
        Ok(each)
    }
}
