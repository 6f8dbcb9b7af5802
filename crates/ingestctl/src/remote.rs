//! Where the producer is asked: its store, or its own HTTP API.
//!
//! Both give the same answers in the same types, so that no command knows which it talks to.

mod http;

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use ingest_status::{Heartbeat, Standing, Thresholds, Timestamp, Verdict, judge};
use market_ingest::config::{StoreConfig, env_vars, store_from_vars};
use market_ingest::control::{
    self, ControlReading, Edit, NothingToResume, PauseRequest, ResumeRequest, hold_id,
};
use market_ingest::gaps::GapRecord;
use market_ingest::history::PauseRecord;
use market_ingest::logging::chain;
use market_ingest::store::{Observed, Store, StoreError};

use self::http::Http;
use crate::answer::{Exit, Failure};
use crate::arguments::Place;

/// Where the producer is asked.
#[derive(Debug)]
pub(crate) enum Remote {
    /// Its store.
    Store(Box<Store>),
    /// Itself.
    Http(Http),
}

/// A look at the producer.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The heartbeat, and when it was read.
    pub(crate) observed: Observed,
    /// Why the producer does not vouch for itself although it answers.
    pub(crate) wedged: Option<String>,
}

/// A request that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Generation of the control document that carries it.
    pub(crate) generation: i64,
    /// The holds that were placed or released, by id.
    pub(crate) holds: Vec<String>,
    /// Whether anything had to be changed for it.
    pub(crate) news: bool,
}

/// Why a request to resume was not taken.
#[derive(Clone, Debug)]
pub(crate) enum NotResumed {
    /// There is nothing that may be released in this way; others' holds on the same, by id.
    Nothing(String, Vec<String>),
    /// It could not be asked.
    Failed(Failure),
}

impl Seen {
    /// The heartbeat, where it is there and understood.
    pub(crate) fn beat(&self) -> Option<&Heartbeat> {
        self.observed.heartbeat.as_ref()?.as_ref().ok()
    }

    /// When it was read, by the clock that counts.
    pub(crate) fn read_at(&self) -> Timestamp {
        self.observed.read_at
    }

    /// What to think of it.
    pub(crate) fn verdict(&self) -> Verdict {
        if let Some(why) = &self.wedged {
            let sentence = format!("the producer answers but does not work: {why}");
            return Verdict { standing: Standing::Stale, tradeable: false, age_s: None, sentence };
        }
        verdict(&self.observed)
    }

    /// Whether somebody is there to obey.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.verdict().standing, Standing::Live | Standing::Late | Standing::Paused)
    }
}

/// The verdict on what a store holds.
pub(crate) fn verdict(observed: &Observed) -> Verdict {
    let seen = match &observed.heartbeat {
        None => ingest_status::Observed::Missing,
        Some(Err(why)) => ingest_status::Observed::Unparsable(why),
        Some(Ok(beat)) => ingest_status::Observed::Document(beat),
    };
    judge(seen, observed.read_at, Thresholds::Interval)
}

impl Remote {
    /// Finds the producer by the command line, else by the producer's own variables.
    pub(crate) async fn connect(place: &Place) -> Result<Self, Failure> {
        if let Some(url) = &place.url {
            return Http::new(url, place.token_file.as_deref()).map(Self::Http);
        }
        let (store, tenant) =
            store_from_vars(env_vars()).map_err(|problems| Failure::refused(problems.to_string()))?;
        if let StoreConfig::Sqlite(path) = &store
            && !path.exists()
        {
            return Err(no_such_file(path));
        }
        let store = Store::attach(&store, tenant.as_deref()).await.map_err(|error| unreached(&error))?;
        Ok(Self::Store(Box::new(store)))
    }

    /// Time between two looks of somebody who goes on watching.
    pub(crate) fn look_every(&self) -> Duration {
        match self {
            // Every look is paid for there.
            Self::Store(store) if matches!(**store, Store::Firestore(_)) => Duration::from_secs(3),
            Self::Store(_) | Self::Http(_) => Duration::from_secs(1),
        }
    }

    /// Looks at the heartbeat.
    pub(crate) async fn observe(&self) -> Result<Seen, Failure> {
        match self {
            Self::Store(store) => {
                let observed = store.observe().await.map_err(|error| unreached(&error))?;
                Ok(Seen { observed, wedged: None })
            }
            Self::Http(http) => http.observe().await,
        }
    }

    /// The control document, where it can be read: over HTTP the heartbeat tells of it.
    pub(crate) async fn control(&self) -> Result<Option<ControlReading>, Failure> {
        match self {
            Self::Store(store) => store.read_control().await.map_err(|error| unreached(&error)),
            Self::Http(_) => Ok(None),
        }
    }

    /// Asks to pause.
    pub(crate) async fn pause(&self, request: &PauseRequest, now: Timestamp) -> Result<Written, Failure> {
        let store = match self {
            Self::Store(store) => store,
            Self::Http(http) => return http.pause(request).await,
        };
        let decide = |read: &ControlReading| Ok::<_, Infallible>(control::pause(read, request, now));
        let Ok(edited) = store.edit_control(decide).await.map_err(|error| unwritten(&error))?;
        let holds = request.scopes.iter().map(|scope| hold_id(scope, request.actor.as_deref())).collect();
        Ok(Written { generation: edited.generation, holds, news: !edited.edits.is_empty() })
    }

    /// Asks to resume.
    pub(crate) async fn resume(&self, request: &ResumeRequest) -> Result<Written, NotResumed> {
        let store = match self {
            Self::Store(store) => store,
            Self::Http(http) => return http.resume(request).await,
        };
        let edited = store
            .edit_control(|read| control::resume(read, request))
            .await
            .map_err(|error| NotResumed::Failed(unwritten(&error)))?;
        let edited = edited.map_err(|nothing| {
            let others = match &nothing {
                NothingToResume::HeldByOthers(_, holds) => holds.iter().map(|(id, _)| id.clone()).collect(),
                NothingToResume::NotHeld(_) | NothingToResume::NoSuchHold(_) => Vec::new(),
            };
            NotResumed::Nothing(nothing.to_string(), others)
        })?;
        let released = |edit: &Edit| match edit {
            Edit::Release { id } | Edit::Place { id, .. } => id.clone(),
        };
        Ok(Written {
            generation: edited.generation,
            holds: edited.edits.iter().map(released).collect(),
            news: !edited.edits.is_empty(),
        })
    }

    /// The newest pauses, newest first.
    pub(crate) async fn history(&self, limit: u32) -> Result<Vec<PauseRecord>, Failure> {
        match self {
            Self::Store(store) => store.read_pauses(limit).await.map_err(|error| unreached(&error)),
            Self::Http(http) => http.history(limit).await,
        }
    }

    /// The newest gaps, newest first.
    pub(crate) async fn gaps(&self, limit: u32) -> Result<Vec<GapRecord>, Failure> {
        match self {
            Self::Store(store) => store.read_gaps(limit).await.map_err(|error| unreached(&error)),
            Self::Http(http) => http.gaps(limit).await,
        }
    }

    /// Every tenant's heartbeat.
    pub(crate) async fn fleet(&self) -> Result<Vec<Observed>, Failure> {
        match self {
            Self::Store(store) => store.fleet().await.map_err(|error| unreached(&error)),
            Self::Http(_) => Err(Failure::refused(
                "fleet reads every tenant in the store, and --url is one producer; leave --url out, or ask for \
                 `ingestctl status --url …`",
            )),
        }
    }
}

fn no_such_file(path: &Path) -> Failure {
    let place = match std::env::current_dir() {
        Ok(here) if path.is_relative() => format!("{} (in {})", path.display(), here.display()),
        _ => path.display().to_string(),
    };
    Failure {
        exit: Exit::NotAsked,
        sentence: format!(
            "there is no SQLite store {place}. ingestctl finds the store by the producer's own variables: set \
             INGEST_STORE and TENANT_ID as the producer has them (INGEST_STORE=sqlite:/path/to/file.db, or firestore), \
             or ask the producer itself with --url http://HOST:PORT"
        ),
    }
}

fn unreached(error: &StoreError) -> Failure {
    Failure { exit: Exit::NotAsked, sentence: format!("the store could not be read: {}", chain(error)) }
}

fn unwritten(error: &StoreError) -> Failure {
    Failure {
        exit: Exit::NotAsked,
        sentence: format!(
            "the store did not confirm the change: {}. Whether it was made is not known; asking again for the same is \
             safe",
            chain(error)
        ),
    }
}
