//! The listener on the control document: told of every change, reconnected for ever.
//!
//! It says only that something may have changed; the reader reads. So nothing is kept, whatever the server sends: the
//! service sends each change, the emulator everything again, and both end with the target being current.

use std::time::Duration;

use ::firestore::errors::FirestoreError;
use ::firestore::gcloud_sdk::google::firestore::v1 as api;
use ::firestore::gcloud_sdk::google::firestore::v1::listen_response::ResponseType;
use ::firestore::gcloud_sdk::google::firestore::v1::target_change::TargetChangeType;
use ::firestore::gcloud_sdk::tonic::{Code, Status, Streaming};
use futures_util::{StreamExt, stream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::{CALL_LIMIT, FirestoreStore, jittered};

const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait before a store that is away is tried again.
const AWAY_WAIT: Duration = Duration::from_millis(500);
/// Longest wait before a store that refuses is asked again: only a human can change its mind.
const REFUSED_WAIT: Duration = Duration::from_secs(30);
/// A connection that lasted this long was a good one.
const SETTLED: Duration = Duration::from_secs(5);

/// Why there is no listener.
enum Broken {
    /// The store is not reached, or ended the stream, as it does now and then.
    Away(String),
    /// It was reached and will not serve us.
    Refused(String),
}

impl FirestoreStore {
    pub(in crate::store) async fn follow_control(&self, changed: &Notify) {
        let mut wait = FIRST_WAIT;
        let mut told = false;
        loop {
            let broken = match self.listen().await {
                Ok(events) => {
                    if told {
                        tracing::info!("the control document is followed again");
                        told = false;
                    }
                    // What happened before is not known.
                    changed.notify_one();
                    let opened = Instant::now();
                    let broken = tell(events, changed).await;
                    if opened.elapsed() >= SETTLED {
                        wait = FIRST_WAIT;
                    }
                    broken
                }
                Err(broken) => {
                    if !told {
                        let (Broken::Away(error) | Broken::Refused(error)) = &broken;
                        tracing::warn!(error, "the control document cannot be followed; it is polled");
                        told = true;
                    }
                    broken
                }
            };
            let longest = match broken {
                Broken::Away(_) => AWAY_WAIT,
                Broken::Refused(_) => REFUSED_WAIT,
            };
            sleep(jittered(wait.min(longest))).await;
            wait = (wait * 2).min(REFUSED_WAIT);
        }
    }

    /// A stream that has told the document's present state and will tell each later one.
    async fn listen(&self) -> Result<Streaming<api::ListenResponse>, Broken> {
        let open = async {
            let mut api = self.api().await?;
            let documents = api::target::DocumentsTarget { documents: vec![self.control_name()] };
            let target = api::Target {
                target_id: 1,
                target_type: Some(api::target::TargetType::Documents(documents)),
                ..Default::default()
            };
            let request = api::ListenRequest {
                database: self.database.clone(),
                target_change: Some(api::listen_request::TargetChange::AddTarget(target)),
                ..Default::default()
            };
            // The server ends the stream when the requests end.
            let requests = stream::iter([request]).chain(stream::pending());
            let mut events = api.listen(requests).await?.into_inner();
            while let Some(event) = events.message().await? {
                let Some(ResponseType::TargetChange(change)) = event.response_type else { continue };
                match change.target_change_type() {
                    TargetChangeType::Current => return Ok(events),
                    TargetChangeType::Remove => return Err(removed(change)),
                    TargetChangeType::NoChange | TargetChangeType::Add | TargetChangeType::Reset => {}
                }
            }
            Err(Broken::Away("the stream ended before it began".to_owned()))
        };
        match timeout(CALL_LIMIT, open).await {
            Ok(opened) => opened,
            Err(_) => Err(Broken::Away(format!("no answer within {CALL_LIMIT:?}"))),
        }
    }
}

/// Tells of changes until the stream ends.
async fn tell(mut events: Streaming<api::ListenResponse>, changed: &Notify) -> Broken {
    loop {
        match events.message().await {
            Err(status) => return status.into(),
            Ok(None) => return Broken::Away("the stream ended".to_owned()),
            Ok(Some(event)) => match event.response_type {
                Some(ResponseType::TargetChange(change)) => match change.target_change_type() {
                    // The service's way to say that it is still there.
                    TargetChangeType::NoChange => {}
                    TargetChangeType::Remove => return removed(change),
                    TargetChangeType::Current | TargetChangeType::Add | TargetChangeType::Reset => {
                        changed.notify_one();
                    }
                },
                Some(_) => changed.notify_one(),
                None => {}
            },
        }
    }
}

fn removed(change: api::TargetChange) -> Broken {
    match change.cause {
        Some(cause) => Status::new(Code::from(cause.code), cause.message).into(),
        None => Broken::Away("the store ended it".to_owned()),
    }
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        let error = format!("{:?}: {}", status.code(), status.message());
        if matches!(
            status.code(),
            Code::PermissionDenied
                | Code::Unauthenticated
                | Code::InvalidArgument
                | Code::NotFound
                | Code::FailedPrecondition
                | Code::Unimplemented
        ) {
            Self::Refused(error)
        } else {
            Self::Away(error)
        }
    }
}

impl From<FirestoreError> for Broken {
    fn from(error: FirestoreError) -> Self {
        Self::Away(error.to_string())
    }
}
