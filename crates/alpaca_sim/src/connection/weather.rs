//! The faults that bear on one connection, as last read from the board.

use std::sync::Arc;

use tokio::sync::watch;

use crate::catalogue::Series;
use crate::fault::{FaultBoard, FaultKind};

/// A reading of the fault board, refreshed when it changes.
pub(crate) struct Weather {
    board: Arc<FaultBoard>,
    changes: watch::Receiver<u64>,
    path: String,
    pub(super) mute: bool,
    pub(super) ignore_pings: bool,
    pub(super) trickle_bytes_per_s: Option<u32>,
    /// The faults that touch elements.
    pub(crate) data: Vec<FaultKind>,
    /// After how many elements the next event strikes.
    pub(super) next_event: Option<u64>,
    /// After how many elements the data ends.
    pub(super) cut_at: Option<u64>,
}

impl Weather {
    pub(super) fn new(board: &Arc<FaultBoard>, path: &str) -> Weather {
        let mut weather = Weather {
            board: Arc::clone(board),
            changes: board.watch(),
            path: path.to_owned(),
            mute: false,
            ignore_pings: false,
            trickle_bytes_per_s: None,
            data: Vec::new(),
            next_event: None,
            cut_at: None,
        };
        weather.refresh();
        weather
    }

    /// Waits for a change of the board.
    pub(super) async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Reads the board anew.
    pub(super) fn refresh(&mut self) {
        self.changes.mark_unchanged();
        let path = Some(self.path.as_str());
        let board = &self.board;
        self.mute = board.find(path, FaultKind::is_mute).is_some();
        self.ignore_pings = board.find(path, |k| matches!(k, FaultKind::IgnorePings {})).is_some();
        let trickle = board.find(path, |k| matches!(k, FaultKind::Trickle { .. }));
        self.trickle_bytes_per_s = None;
        if let Some(FaultKind::Trickle { bytes_per_s }) = trickle {
            self.trickle_bytes_per_s = Some(bytes_per_s);
        }
        self.data = board.find_all(&self.path, FaultKind::is_data);
        let events = board.find_all(&self.path, FaultKind::is_event);
        self.next_event = events.iter().filter_map(FaultKind::after).min();
        self.cut_at = events.iter().filter(|k| k.ends_data()).filter_map(FaultKind::after).min();
    }

    /// Lets an event strike that is due after `sent` elements.
    pub(super) fn take_event(&mut self, sent: u64) -> Option<FaultKind> {
        let due = |k: &FaultKind| k.after().is_some_and(|after| after <= sent);
        let event = self.board.take(Some(&self.path), due);
        self.refresh();
        event
    }

    /// Lets a data fault strike; false when another connection has used up its last strike.
    pub(crate) fn spend(&self, fault: &FaultKind) -> bool {
        self.board.take(Some(&self.path), |k| k == fault).is_some()
    }

    /// Whether a part of the feed that `about` belongs to is mute.
    pub(super) fn is_mute(&self, about: &Series) -> bool {
        self.data.iter().any(|fault| {
            matches!(fault, FaultKind::Mute { symbol, channel }
                if symbol.as_ref().is_none_or(|symbol| about.symbols.contains(symbol))
                    && channel.as_ref().is_none_or(|channel| channel == about.channel.name()))
        })
    }

    /// Whether any symbol was renamed.
    pub(super) fn has_rename(&self) -> bool {
        self.data.iter().any(|fault| matches!(fault, FaultKind::Rename { .. }))
    }

    /// The name under which `symbol` trades now, if it was renamed.
    pub(super) fn renamed(&self, symbol: &str) -> Option<&str> {
        for fault in &self.data {
            if let FaultKind::Rename { from, to } = fault
                && from == symbol
            {
                return Some(to);
            }
        }
        None
    }
}
