//! What else may hold besides environment, file and schedule: signals, the control document, and the table
//! `data_ingest_state`. Each is read here and handed to the switch, which decides.
//!
//! The first reading comes before anything dials. A control document that was never read, because the store is away
//! at boot, holds everything: a restart must not undo a pause. Later the last good reading stands.

use std::time::Duration;

use ingest_switch::watch::Input;
use ingest_switch::{Doubt, Notes, Observation, Scope, Source};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::assets::AssetNames;
use crate::control::ControlReading;
use crate::logging;
use crate::store::{Store, StoreError};

/// The group of the control document's holds, as the switch knows it.
const CONTROL: &str = "control";
/// The group of the rows of `data_ingest_state`.
const ASSETS: &str = "data_ingest_state";
/// The id of the hold that stands while the control document was never read.
const UNREAD: &str = "unread";

/// A store that cannot be read is asked again after this time.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The first reading may take this long.
const FIRST_LIMIT: Duration = Duration::from_secs(2);

/// The two signals that hold and release.
#[derive(Debug)]
pub struct HoldSignals {
    hold: Signal,
    release: Signal,
}

impl HoldSignals {
    /// Catches `SIGUSR1` and `SIGUSR2` from here on; to be called within a runtime, as early as can be: a signal
    /// without a handler ends the process.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn catch() -> std::io::Result<Self> {
        Ok(Self { hold: signal(SignalKind::user_defined1())?, release: signal(SignalKind::user_defined2())? })
    }

    /// Hands every signal to the switch until it is gone.
    pub(crate) async fn follow(mut self, inputs: mpsc::Sender<Input>) {
        loop {
            let observation = tokio::select! {
                biased;
                // Two that are pending together have no order: the hold is taken last and stands.
                _ = self.release.recv() => Observation::NoOpinion,
                _ = self.hold.recv() => {
                    Observation::Off { scope: Scope::ALL, notes: Notes::default(), since: None }
                }
            };
            if inputs.send(Input::Source(Source::signal("SIGUSR1"), observation)).await.is_err() {
                return;
            }
        }
    }
}

/// Reads what operators ask for through the store, and keeps reading it.
#[derive(Debug)]
pub(crate) struct ControlFollower {
    store: Store,
    names: AssetNames,
    /// What was handed on last, so that an unchanged document wakes nobody.
    last: Option<[Input; 2]>,
    /// Nothing was read yet, and everything is held for it.
    unread: bool,
}

impl ControlFollower {
    /// The first reading, and the follower that goes on from there.
    pub(crate) async fn first(store: Store, names: AssetNames) -> (Vec<Input>, Self) {
        let mut follower = Self { store, names, last: None, unread: false };
        let read = match timeout(FIRST_LIMIT, follower.read()).await {
            Ok(read) => read,
            Err(_) => Err(StoreError::Timeout(FIRST_LIMIT)),
        };
        let inputs = match read {
            Ok(inputs) => inputs.to_vec(),
            Err(error) => {
                let error = logging::chain(&error);
                tracing::error!(
                    error,
                    "the control document cannot be read; nothing is ingested until it is"
                );
                let notes = Notes {
                    reason: Some("the control document has not been read yet".to_owned()),
                    ..Notes::default()
                };
                let unread = Observation::Off { scope: Scope::ALL, notes, since: None };
                follower.unread = true;
                vec![Input::Source(Source::control(UNREAD), unread), doubt(&error)]
            }
        };
        (inputs, follower)
    }

    /// Follows until the switch is gone: at once when the store tells of a change, else by its poll.
    pub(crate) async fn follow(mut self, inputs: mpsc::Sender<Input>) {
        let store = self.store.clone();
        let changed = Notify::new();
        let reading = async {
            let mut failing = false;
            loop {
                let pause = if failing { RETRY_AFTER } else { store.control_poll() };
                // Either way it is read again.
                let _ = timeout(pause, changed.notified()).await;
                let read = self.read().await;
                failing = read.is_err();
                let news = match read {
                    Ok(read) => self.news(read),
                    Err(error) => {
                        self.last = None;
                        vec![doubt(&logging::chain(&error))]
                    }
                };
                for input in news {
                    if inputs.send(input).await.is_err() {
                        return;
                    }
                }
            }
        };
        tokio::select! {
            () = reading => {}
            () = store.follow_control(&changed) => {}
        }
    }

    async fn read(&self) -> Result<[Input; 2], StoreError> {
        let control = self.store.read_control().await?;
        let rows = self.store.read_assets().await?;
        let readings = rows.iter().filter_map(|row| self.names.hold(row)).collect();
        Ok([control_input(control), Input::Group { group: ASSETS, readings, generation: None }])
    }

    /// What of a reading is new.
    fn news(&mut self, read: [Input; 2]) -> Vec<Input> {
        let old = self.last.replace(read.clone());
        let is_old = |input: &Input| old.as_ref().is_some_and(|old| old.contains(input));
        let mut news: Vec<Input> = read.into_iter().filter(|input| !is_old(input)).collect();
        // After what was read, so that nothing runs in between.
        if std::mem::take(&mut self.unread) {
            news.push(Input::Source(Source::control(UNREAD), Observation::NoOpinion));
        }
        news
    }
}

fn doubt(error: &str) -> Input {
    Input::GroupDoubt { group: CONTROL, doubt: Doubt::Unreadable(error.to_owned()) }
}

/// What the document says, as the switch takes it: a document that is gone, or whole nonsense, leaves standing what it
/// said before; one hold that is nonsense leaves standing what that one said.
fn control_input(read: Option<ControlReading>) -> Input {
    let Some(read) = read else {
        return Input::Group { group: CONTROL, readings: Vec::new(), generation: None };
    };
    if let Some(found) = read.garbled {
        return Input::GroupDoubt { group: CONTROL, doubt: Doubt::garbled(&found) };
    }
    let observation = |hold| match hold {
        Ok(crate::control::ControlHold { scope, reason, actor, since, until }) => Observation::Off {
            scope,
            notes: Notes { reason, actor, until: until.map(Into::into), bad: None },
            since: since.map(Into::into),
        },
        Err(found) => {
            let found: String = found;
            Observation::Doubt(Doubt::garbled(&found))
        }
    };
    let readings =
        read.holds.into_iter().map(|(id, hold)| (control_source(&id), observation(hold))).collect();
    Input::Group { group: CONTROL, readings, generation: read.generation }
}

/// The source of a hold by its id; one that has the id of a source of ours must not be taken for it.
fn control_source(id: &str) -> Source {
    let is_ours = id == UNREAD || id.starts_with(&format!("{ASSETS}/")) || id.starts_with("./");
    if is_ours { Source::control(&format!("./{id}")) } else { Source::control(id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_hold_is_never_taken_for_one_of_ours() {
        let ours = ["unread", "data_ingest_state/AAPL/trades"].map(Source::control);
        for id in ["unread", "data_ingest_state/AAPL/trades", "./unread"] {
            assert!(!ours.contains(&control_source(id)), "{id}");
        }
        assert_ne!(control_source("./unread"), control_source("unread"));
        assert_eq!(control_source("all-kim"), Source::control("all-kim"));
    }

    #[test]
    fn what_cannot_be_understood_is_in_doubt_and_the_rest_is_taken_up() {
        let mut read = ControlReading { generation: Some(7), ..ControlReading::default() };
        read.holds.insert("bad".to_owned(), Err("scope: 5".to_owned()));
        let Input::Group { readings, generation, .. } = control_input(Some(read.clone())) else { panic!() };
        assert_eq!(generation, Some(7));
        assert_eq!(readings, [(Source::control("bad"), Observation::Doubt(Doubt::garbled("scope: 5")))]);
        read.garbled = Some("holds: a list".to_owned());
        let input = control_input(Some(read));
        assert_eq!(input, Input::GroupDoubt { group: CONTROL, doubt: Doubt::garbled("holds: a list") });
    }
}
