//! The right to carry out the rules, which one gateway has at a time of all that share a metadata store.
//!
//! A value of the store tells who has it, with a number that the holder raises for as long as it lives. No clock is compared with another
//! gateway's: who waits takes over when it has seen the same number for a whole term by its own clock, and a holder that could not raise
//! its number for two thirds of a term stops by itself before that. The value also tells when the last run ended, so that gateways whose
//! hours strike one after the other do not each begin one.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::error::Result;
use crate::meta::MetaStore;
use crate::runtime::unix_millis;

/// The value of the metadata store.
const NAME: &str = "lifecycle.lease";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct State {
    /// Who has it; nobody when empty.
    holder: String,
    /// What the holder raises.
    beat: u64,
    /// When the last run ended, in milliseconds since 1970 by the clock of whoever ran.
    ended: i64,
}

impl State {
    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The right of a gateway, when it has its turn.
#[derive(Debug)]
pub struct Lease {
    store: Arc<dyn MetaStore>,
    holder: String,
    term: Duration,
}

/// It is this gateway's turn.
pub(super) struct Turn<'a> {
    lease: &'a Lease,
    state: State,
}

impl Lease {
    /// Of the gateway `holder`, which no other one may be called. Who holds it and dies keeps the others waiting for a `term`.
    #[must_use]
    pub fn new(store: Arc<dyn MetaStore>, holder: String, term: Duration) -> Self {
        Self { store, holder, term }
    }

    /// Takes the turn: `None` when another gateway has it and is alive, or a run ended less than `pause` ago. Waits for a term when
    /// another gateway had it and may be dead.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub(super) async fn take(&self, pause: Duration) -> Result<Option<Turn<'_>>> {
        let text = self.store.value_or_insert(NAME, &State::default().text()).await?;
        // What cannot be read was written by nobody who still holds it.
        let old: State = serde_json::from_str(&text).unwrap_or_default();
        if !old.holder.is_empty() {
            tokio::time::sleep(self.term).await;
            if self.store.value(NAME).await?.as_deref() != Some(&text) {
                return Ok(None);
            }
            tracing::warn!(
                holder = old.holder,
                "a gateway died in a lifecycle run, or cannot reach the store: this one takes over"
            );
        } else if (0..i64::try_from(pause.as_millis()).unwrap_or(i64::MAX)).contains(&unix_millis().saturating_sub(old.ended)) {
            return Ok(None);
        }
        let state = State { holder: self.holder.clone(), beat: 0, ended: old.ended };
        let taken = self.store.replace_value(NAME, &text, &state.text()).await?;
        Ok(taken.then_some(Turn { lease: self, state }))
    }
}

impl Turn<'_> {
    /// Raises the number again and again; ends when the turn is lost.
    pub(super) async fn keep(&mut self) {
        let mut raised = Instant::now();
        loop {
            tokio::time::sleep(self.lease.term / 6).await;
            let next = State { beat: self.state.beat + 1, ..self.state.clone() };
            let (from, to) = (self.state.text(), next.text());
            let asked = self.lease.store.replace_value(NAME, &from, &to);
            let left = (self.lease.term * 2 / 3).saturating_sub(raised.elapsed());
            let began = Instant::now();
            match tokio::time::timeout(left, asked).await {
                Ok(Ok(true)) => (self.state, raised) = (next, began),
                Ok(Ok(false)) => {
                    // It may be this gateway's own, of a call that was given up and came through.
                    let told = self.lease.store.value(NAME).await;
                    if !matches!(told, Ok(Some(text)) if text == to) {
                        return;
                    }
                    (self.state, raised) = (next, began);
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the lease of the lifecycle could not be renewed");
                    if raised.elapsed() >= self.lease.term * 2 / 3 {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// Gives it back after a run that went to its end.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub(super) async fn give_back(self) -> Result<()> {
        let ended = State { ended: unix_millis(), ..State::default() };
        // False when it was lost at the last moment: then it is not this gateway's to give.
        self.lease.store.replace_value(NAME, &self.state.text(), &ended.text()).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
    use super::*;

    /// Two thirds of it are more than a busy machine lets a holder wait for the store.
    const TERM: Duration = Duration::from_secs(3);

    fn lease(store: &Arc<dyn MetaStore>, holder: &str) -> Lease {
        Lease::new(Arc::clone(store), holder.to_owned(), TERM)
    }

    /// On any store.
    async fn one_at_a_time(store: Arc<dyn MetaStore>) {
        let (one, two) = (lease(&store, "one"), lease(&store, "two"));
        let mut turn = one.take(Duration::ZERO).await.unwrap().unwrap();
        // A holder that lives keeps it; the other has waited for a term.
        tokio::select! {
            () = turn.keep() => panic!("nobody took it"),
            other = two.take(Duration::ZERO) => assert!(other.unwrap().is_none()),
        }
        // It dies, and the other takes over; should it come back, it finds that it has lost its turn.
        let taken = two.take(Duration::ZERO).await.unwrap().unwrap();
        turn.keep().await;
        turn.give_back().await.unwrap();
        assert_eq!(store.value(NAME).await.unwrap().unwrap(), taken.state.text(), "what is lost is not given back");
        // One that ended spares the others a run of their own.
        taken.give_back().await.unwrap();
        assert!(one.take(Duration::from_secs(3600)).await.unwrap().is_none());
        // Whoever gets it lives for as long as the other one looks.
        let over = tokio::sync::Notify::new();
        let has_turn = async |lease: &Lease| {
            let turn = lease.take(Duration::ZERO).await.unwrap();
            let has = turn.is_some();
            if let Some(mut turn) = turn {
                tokio::select! {
                    () = turn.keep() => {}
                    () = over.notified() => {}
                }
            }
            over.notify_one();
            has
        };
        let (a, b) = tokio::join!(has_turn(&one), has_turn(&two));
        assert!(a != b, "of two one gets it");
    }

    #[tokio::test]
    async fn one_gateway_at_a_time() {
        one_at_a_time(Arc::new(crate::meta::SqliteStore::open_in_memory().await.unwrap())).await;
    }

    #[tokio::test]
    #[ignore = "needs a PostgreSQL server"]
    async fn one_gateway_at_a_time_on_postgres() {
        let dsn = crate::meta::postgres::tests::schema().await;
        one_at_a_time(Arc::new(crate::meta::PostgresStore::open(&dsn, 4).await.unwrap())).await;
    }
}
