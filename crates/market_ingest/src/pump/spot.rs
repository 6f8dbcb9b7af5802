//! Symbols that fell silent while others flow: the venue's REST service is asked whether it has something newer of them,
//! and the watchdog told. Only what is newer there makes a silent symbol a mute one.
//!
//! One question is under way at most, and only while the job is live. It runs beside the service's other tasks, because
//! it shares the connections of one client with the backfills, and whoever dials one drives it: not the pump's thread.

use std::collections::BTreeMap;
use std::time::Duration;

use alpaca_feed::subscription::{Channel, Subscriptions};
use alpaca_feed::symbol::SymbolId;
use alpaca_feed::watchdog::Subject;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Pump, now, vigil};
use crate::logging;
use crate::rest::{Client, RestError};
use crate::sink::wall_ts;

/// Between two questions at least…
const ASK_EVERY: Duration = Duration::from_secs(10);
/// …and after one that was not answered.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// Symbols in one question; the others come next.
const SYMBOLS_MAX: usize = 100;

/// What is asked, and when.
pub(super) struct SpotChecks {
    /// None where nobody is to be asked.
    client: Option<Client>,
    service: Handle,
    not_before: Option<Instant>,
    /// At most one; called off when it is dropped.
    under_way: JoinSet<Answer>,
    failing: bool,
}

/// What was asked about, and the market's time of the newest message of each that has one.
pub(super) struct Answer {
    asked: Vec<SymbolId>,
    newest: Result<BTreeMap<String, i64>, RestError>,
}

impl SpotChecks {
    /// Questions are asked on the runtime in which this is called.
    pub(super) fn new(client: Option<Client>) -> Self {
        let (service, under_way) = (Handle::current(), JoinSet::new());
        Self { client, service, not_before: None, under_way, failing: false }
    }

    /// Completes with the answer to what is under way. Cancel safe.
    pub(super) async fn answered(&mut self) -> Answer {
        match self.under_way.join_next().await {
            Some(Ok(answer)) => answer,
            // Nobody asks, or who asked is dead.
            None | Some(Err(_)) => std::future::pending().await,
        }
    }
}

impl Pump {
    /// Asks about those that may be mute, if it is time. What is not live is expected to be silent.
    pub(super) fn check_suspects(&mut self) {
        if !matches!(self.watch_told, vigil::Told::Live(_)) {
            if !self.spot_checks.under_way.is_empty() {
                self.spot_checks.under_way = JoinSet::new();
            }
            return;
        }
        let (Some(client), Ok(history)) = (&self.spot_checks.client, &self.job.history) else { return };
        let now = Instant::now();
        if !self.spot_checks.under_way.is_empty() || self.spot_checks.not_before.is_some_and(|at| now < at) {
            return;
        }
        let (mut asked, mut pairs) = (Vec::new(), Subscriptions::default());
        for symbol in self.watchdog.suspects().into_iter().take(SYMBOLS_MAX) {
            let name = self.wiring.symbols.name(symbol);
            for (channel, _) in self.pairs_of(&[Subject::Symbol(symbol)], self.lifecycle.desired()).channels()
            {
                // The kinds by whose silence it is suspected.
                if matches!(channel, Channel::Trades | Channel::Quotes) && history.latest(channel).is_some() {
                    pairs.insert(channel, &*name);
                }
            }
            asked.push(symbol);
        }
        if pairs.is_empty() {
            return;
        }
        let (client, history) = (client.clone(), history.clone());
        self.spot_checks.not_before = Some(now + ASK_EVERY);
        let ask = async move {
            let newest = client.newest(&history, &pairs).await;
            Answer { asked, newest }
        };
        self.spot_checks.under_way.spawn_on(ask, &self.spot_checks.service);
    }

    pub(super) fn take_spot_check(&mut self, answer: Answer) {
        match answer.newest {
            Ok(newest) => {
                self.spot_checks.failing = false;
                for symbol in answer.asked {
                    // Of what never traded, nothing can be missing.
                    let newest_ts =
                        newest.get(&*self.wiring.symbols.name(symbol)).copied().unwrap_or(i64::MIN);
                    self.watchdog.handle_spot_check(now(), wall_ts(), symbol, newest_ts);
                }
            }
            Err(error) => {
                self.spot_checks.not_before = Some(Instant::now() + RETRY_AFTER);
                if !std::mem::replace(&mut self.spot_checks.failing, true) {
                    let (job, error) = (&*self.state.name, logging::chain(&error));
                    tracing::warn!(job, error, "the venue cannot be asked about silent symbols");
                }
            }
        }
    }
}
