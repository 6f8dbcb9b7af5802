//! The control document: what operators ask for through the store, and the two verbs that edit it.
//!
//! Operators write it, from the command line, over HTTP or by hand; the service only reads it. `generation` grows by
//! one for every hold that is placed, rewritten or released, so that "taken up" and "effective" can be told of each.
//!
//! Invariants: a verb edits the caller's own holds only, unless it names a hold by its id; asking twice for the same
//! changes nothing; a part that cannot be understood never changes what the rest says.

use std::collections::BTreeMap;
use std::fmt;

use ingest_status::Timestamp;
use ingest_switch::Scope;

/// A hold as the control document carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlHold {
    /// What it covers.
    pub scope: Scope,
    /// Why.
    pub reason: Option<String>,
    /// Who.
    pub actor: Option<String>,
    /// When it was placed; none in a hold written by hand without it.
    pub since: Option<Timestamp>,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

/// The control document as it was read: what could be understood, and what could not and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlReading {
    /// Counts the changes; none when it is missing or no whole number.
    pub generation: Option<i64>,
    /// By hold id; an error says what was found there and what is accepted.
    pub holds: BTreeMap<String, Result<ControlHold, String>>,
    /// What is wrong with the document as a whole; the holds that were read before then stand.
    pub garbled: Option<String>,
}

/// One change of the control document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Sets a hold, new or in place of the one of the same id.
    Place {
        /// Its id.
        id: String,
        /// What it shall be.
        hold: ControlHold,
    },
    /// Takes a hold away.
    Release {
        /// Its id.
        id: String,
    },
}

/// What became of a request to edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The document's generation now; unchanged if there was nothing to change.
    pub generation: i64,
    /// The edits that were made.
    pub edits: Vec<Edit>,
}

/// A request to pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PauseRequest {
    /// What to hold, each scope by a hold of its own.
    pub scopes: Vec<Scope>,
    /// Why.
    pub reason: Option<String>,
    /// Who asks.
    pub actor: Option<String>,
    /// When it shall end by itself.
    pub until: Option<Timestamp>,
}

/// A request to resume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeRequest {
    /// Which of the caller's own holds to release, by what they cover.
    pub scopes: Vec<Scope>,
    /// Holds to release by id, whoever placed them.
    pub holds: Vec<String>,
    /// Who asks.
    pub actor: Option<String>,
}

/// Why a request to resume changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NothingToResume {
    /// No control hold covers exactly that scope; whatever holds it came from another source.
    NotHeld(Scope),
    /// Others hold it, and their holds are released by id only.
    HeldByOthers(Scope, Vec<(String, ControlHold)>),
    /// No hold has that id.
    NoSuchHold(String),
}

impl fmt::Display for NothingToResume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHeld(scope) => write!(f, "no control hold pauses {scope}"),
            Self::HeldByOthers(scope, holds) => {
                write!(f, "{scope} is held by others:")?;
                for (id, hold) in holds {
                    write!(f, " {id}")?;
                    if let Some(actor) = &hold.actor {
                        write!(f, " by {actor:?}")?;
                    }
                    if let Some(reason) = &hold.reason {
                        write!(f, " ({reason})")?;
                    }
                    f.write_str(";")?;
                }
                f.write_str(" to release somebody else's hold, name its id")
            }
            Self::NoSuchHold(id) => write!(f, "there is no control hold {id:?}"),
        }
    }
}

impl std::error::Error for NothingToResume {}

/// The edits that a request to pause comes to; none where the same is asked already.
#[must_use]
pub fn pause(read: &ControlReading, request: &PauseRequest, now: Timestamp) -> Vec<Edit> {
    let mut edits: Vec<Edit> = Vec::new();
    for scope in &request.scopes {
        let id = hold_id(scope, request.actor.as_deref());
        let standing = match read.holds.get(&id) {
            Some(Ok(hold)) if hold.until.is_none_or(|until| until > now) => Some(hold),
            _ => None,
        };
        let hold = ControlHold {
            scope: scope.clone(),
            reason: request.reason.clone(),
            actor: request.actor.clone(),
            since: standing.map_or(Some(now), |hold| hold.since),
            until: request.until,
        };
        if standing != Some(&hold)
            && !edits.iter().any(|edit| matches!(edit, Edit::Place { id: i, .. } if *i == id))
        {
            edits.push(Edit::Place { id, hold });
        }
    }
    edits
}

/// The edits that a request to resume comes to.
///
/// # Errors
/// When one of its scopes or ids has nothing that the caller may release in this way; then nothing is released.
pub fn resume(read: &ControlReading, request: &ResumeRequest) -> Result<Vec<Edit>, NothingToResume> {
    let mut ids: Vec<String> = Vec::new();
    for scope in &request.scopes {
        let on_scope = || {
            let good = read.holds.iter().filter_map(|(id, hold)| Some((id, hold.as_ref().ok()?)));
            good.filter(|(_, hold)| hold.scope == *scope)
        };
        let own: Vec<String> =
            on_scope().filter(|(_, hold)| hold.actor == request.actor).map(|(id, _)| id.clone()).collect();
        if own.is_empty() {
            let others: Vec<_> = on_scope().map(|(id, hold)| (id.clone(), hold.clone())).collect();
            let named = others.iter().any(|(id, _)| request.holds.contains(id));
            match (others.is_empty(), named) {
                (_, true) => {}
                (true, false) => return Err(NothingToResume::NotHeld(scope.clone())),
                (false, false) => return Err(NothingToResume::HeldByOthers(scope.clone(), others)),
            }
        }
        ids.extend(own);
    }
    for id in &request.holds {
        if !read.holds.contains_key(id) {
            return Err(NothingToResume::NoSuchHold(id.clone()));
        }
        ids.push(id.clone());
    }
    ids.sort();
    ids.dedup();
    Ok(ids.into_iter().map(|id| Edit::Release { id }).collect())
}

/// The id of an actor's hold on a scope: the same request twice is the same hold.
#[must_use]
pub fn hold_id(scope: &Scope, actor: Option<&str>) -> String {
    let full = match actor {
        Some(actor) => format!("{scope} {actor}"),
        None => scope.to_string(),
    };
    let lower = full.to_lowercase();
    let mut id: String =
        lower.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(80).collect();
    // What the id cannot show must not make two holds one.
    let scope = scope.to_string();
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric());
    let faithful = lower.len() <= 80
        && scope.splitn(2, ':').all(plain)
        && actor.is_none_or(|actor| plain(actor) && actor == actor.to_lowercase());
    if !faithful {
        // FNV-1a: the same in every build, because every operator's program must come to the same id.
        let hash = full
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        id.push_str(&format!("-{hash:08x}"));
    }
    id
}

#[cfg(test)]
mod tests;
