//! Changes of topics that are kept in a log. They wait in a queue; one thread at a time takes all that waits, writes and flushes it at once,
//! and shows it then: nobody is told of a message that a crash could take back, and many publishers share a flush.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use sluice_provider::{DeleteKey, DeleteOutcome, Error, ErrorKind, Key, ObjectInfo, PutWhen, Result};
use tokio::sync::oneshot;

use crate::board::{Board, Entry, INFO, Publication, Topic};
use crate::log::{Log, Message, Record, Segment};

/// The most changes that are written at once, and their bytes.
const MOST: usize = 1000;
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// How long a write that failed speaks against the mount. Only another write can find out, and who is thought to be ill gets none.
const DOUBT: Duration = Duration::from_secs(10);

/// The log of a board, and what waits to be written.
#[derive(Debug)]
pub(crate) struct Journal {
    /// Held by the thread that writes, and by nobody else but a test.
    log: Mutex<Log>,
    queue: Mutex<Queue>,
    next_life: AtomicU64,
    /// When and why the last write failed, until one succeeds.
    failure: Mutex<Option<(Instant, ErrorKind, String)>>,
}

/// Bounded by the requests under way, and by the quota: a message is counted before it gets here.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Wish>,
    running: bool,
}

#[derive(Debug)]
enum Wish {
    Publish(Box<Publication>, oneshot::Sender<Result<ObjectInfo>>),
    Delete(DeleteKey, oneshot::Sender<Result<DeleteOutcome>>),
}

/// What is planned and not shown yet.
enum Planned {
    Publish(Box<Publication>, Topic, oneshot::Sender<Result<ObjectInfo>>),
    Delete(Key, (Topic, u64), oneshot::Sender<Result<DeleteOutcome>>),
}

/// Ends the turn of the thread that writes; also when it panics, so that the next change begins another.
struct Turn<'a>(&'a Journal);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut queue = self.0.queue.lock();
            queue.running = false;
            // Those who wait are told by the end of their channels.
            queue.waiting.clear();
        }
    }
}

impl Wish {
    fn key(&self) -> &Key {
        match self {
            Self::Publish(one, _) => &one.key,
            Self::Delete(delete, _) => &delete.key,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Publish(one, _) => one.bytes.len(),
            Self::Delete(..) => 0,
        }
    }

    /// Whether nobody waits for it any more.
    fn is_given_up(&self) -> bool {
        match self {
            Self::Publish(_, tell) => tell.is_closed(),
            Self::Delete(_, tell) => tell.is_closed(),
        }
    }
}

impl Journal {
    pub(crate) fn new(log: Log, next_life: u64) -> Self {
        Self { log: Mutex::new(log), queue: Mutex::default(), next_life: AtomicU64::new(next_life), failure: Mutex::new(None) }
    }

    /// Why nothing can be written now, as far as that was tried lately.
    pub(crate) fn check(&self) -> Result<()> {
        match &*self.failure.lock() {
            Some((at, kind, reason)) if at.elapsed() < DOUBT => Err(Error::new(*kind, "log of topics").with("reason", reason)),
            _ => Ok(()),
        }
    }

    /// How many bytes the log has, and how many of them are messages that are kept.
    #[cfg(test)]
    pub(crate) fn weight(&self) -> (u64, u64) {
        self.log.lock().weight()
    }

    /// As many changes as are written at once.
    fn take(&self) -> Option<VecDeque<Wish>> {
        let mut queue = self.queue.lock();
        let (mut count, mut bytes) = (0, 0);
        for wish in &queue.waiting {
            bytes += wish.bytes();
            if count > 0 && (count >= MOST || bytes > MOST_BYTES) {
                break;
            }
            count += 1;
        }
        queue.running = count > 0;
        (count > 0).then(|| queue.waiting.drain(..count).collect())
    }
}

impl Board {
    fn enqueue(self: &Arc<Self>, journal: &Journal, wish: Wish) {
        let running = {
            let mut queue = journal.queue.lock();
            queue.waiting.push_back(wish);
            std::mem::replace(&mut queue.running, true)
        };
        if !running {
            let board = Arc::clone(self);
            tokio::task::spawn_blocking(move || board.work());
        }
    }

    /// Publishes a message.
    ///
    /// # Errors
    /// What speaks against it, and that it could not be written.
    pub(crate) async fn publish(self: &Arc<Self>, one: Publication) -> Result<ObjectInfo> {
        let Some(journal) = &self.journal else {
            let mut objects = self.objects.write();
            let topic = self.place(&objects, &one, 0, 0, SystemTime::now())?;
            return Ok(self.show(&mut objects, topic, one, None));
        };
        let (tell, told) = oneshot::channel();
        self.enqueue(journal, Wish::Publish(Box::new(one), tell));
        told.await.map_err(|e| Error::new(ErrorKind::Internal, "publish").caused_by(e))?
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// What speaks against it, and that it could not be written.
    pub(crate) async fn delete(self: &Arc<Self>, delete: &DeleteKey) -> Result<DeleteOutcome> {
        let Some(journal) = &self.journal else {
            let mut objects = self.objects.write();
            let Some(doomed) = self.doomed(&objects, delete)? else { return Ok(DeleteOutcome::Absent) };
            return Ok(self.remove(&mut objects, &delete.key, doomed));
        };
        let (tell, told) = oneshot::channel();
        self.enqueue(journal, Wish::Delete(delete.clone(), tell));
        told.await.map_err(|e| Error::new(ErrorKind::Internal, "delete").caused_by(e))?
    }

    /// Writes all that waits, and what comes meanwhile. Blocks.
    fn work(&self) {
        let Some(journal) = &self.journal else { return };
        let _turn = Turn(journal);
        while let Some(mut wishes) = journal.take() {
            let mut log = journal.log.lock();
            while !wishes.is_empty() {
                let (records, planned) = self.plan(journal, &mut wishes);
                if !planned.is_empty() {
                    self.commit(journal, &mut log, &records, planned);
                }
            }
            if let Err(error) = self.tidy(&mut log) {
                tracing::warn!(%error, "the log of topics could not be shortened; the next message tries again");
            }
        }
    }

    /// Plans changes as long as each can be judged by what is shown, and answers those that cannot be made at all.
    fn plan(&self, journal: &Journal, wishes: &mut VecDeque<Wish>) -> (Vec<Record>, Vec<Planned>) {
        let (mut records, mut planned) = (Vec::new(), Vec::new());
        // Topics with messages that are not shown yet: what they will be, and the number of the next message.
        let mut grown: HashMap<Key, (Topic, u64)> = HashMap::new();
        let mut deleted: HashSet<Key> = HashSet::new();
        let mut making = 0;
        let objects = self.objects.read();
        while let Some(wish) = wishes.front() {
            let key = wish.key();
            let named = |key: &str| grown.contains_key(key);
            let related = named(&format!("{key}{INFO}")) || key.as_str().strip_suffix(INFO).is_some_and(named);
            let simple = matches!(wish, Wish::Publish(one, _) if matches!(one.when, PutWhen::Always));
            if related || deleted.contains(key) || (grown.contains_key(key) && !simple) {
                break;
            }
            let Some(wish) = wishes.pop_front() else { break };
            if wish.is_given_up() {
                continue;
            }
            let now = SystemTime::now();
            match wish {
                Wish::Publish(one, tell) => {
                    let topic = match grown.get(&one.key) {
                        Some((topic, next)) => Ok((topic.followed_by(&one, now), *next)),
                        None => {
                            let life = journal.next_life.load(Ordering::Relaxed);
                            self.place(&objects, &one, life, making, now).map(|topic| {
                                let next = topic.feed.next();
                                (topic, next)
                            })
                        }
                    };
                    match topic {
                        Ok((topic, sequence)) => {
                            if !grown.contains_key(&one.key) && !objects.contains_key(&one.key) {
                                making += 1;
                                journal.next_life.fetch_add(1, Ordering::Relaxed);
                            }
                            records.push(Record::Message(Message {
                                life: topic.life,
                                sequence,
                                created: topic.created,
                                modified: topic.modified,
                                key: one.key.clone(),
                                etag: topic.etag.clone(),
                                attributes: topic.attributes.clone(),
                                bytes: one.bytes.clone(),
                            }));
                            grown.insert(one.key.clone(), (topic.clone(), sequence + 1));
                            planned.push(Planned::Publish(one, topic, tell));
                        }
                        Err(error) => drop(tell.send(Err(error))),
                    }
                }
                Wish::Delete(delete, tell) => match self.doomed(&objects, &delete) {
                    Ok(Some(doomed)) => {
                        records.push(Record::Deletion { life: doomed.0.life });
                        deleted.insert(delete.key.clone());
                        planned.push(Planned::Delete(delete.key, doomed, tell));
                    }
                    Ok(None) => drop(tell.send(Ok(DeleteOutcome::Absent))),
                    Err(error) => drop(tell.send(Err(error))),
                },
            }
        }
        (records, planned)
    }

    /// Makes what was planned durable, and shows it; or tells everybody that it could not be written.
    fn commit(&self, journal: &Journal, log: &mut Log, records: &[Record], planned: Vec<Planned>) {
        let stored = match log.append(records) {
            Ok(stored) => stored,
            Err(error) => {
                tracing::error!(%error, "the log of topics cannot be written");
                let (kind, reason) = (*error.kind(), error.to_string());
                let failed = |operation| Error::new(kind, operation).with("reason", &reason);
                for one in planned {
                    match one {
                        Planned::Publish(_, _, tell) => drop(tell.send(Err(failed("publish")))),
                        Planned::Delete(_, _, tell) => drop(tell.send(Err(failed("delete")))),
                    }
                }
                *journal.failure.lock() = Some((Instant::now(), kind, reason));
                return;
            }
        };
        *journal.failure.lock() = None;
        let mut objects = self.objects.write();
        for (one, stored) in planned.into_iter().zip(stored) {
            // Nobody may wait for the answer any more; it is done all the same.
            match one {
                Planned::Publish(one, topic, tell) => drop(tell.send(Ok(self.show(&mut objects, topic, *one, Some(stored))))),
                Planned::Delete(key, doomed, tell) => drop(tell.send(Ok(self.remove(&mut objects, &key, doomed)))),
            }
        }
    }

    /// Gives up the oldest segment, where it is time for that: what lives in it is written once more.
    fn tidy(&self, log: &mut Log) -> Result<()> {
        while let Some(segment) = log.outweighed() {
            let costs = segment.live() > 0;
            if costs {
                self.rewrite(log, &segment)?;
            }
            log.remove_oldest()?;
            if costs {
                // The next one with the next change, so that nobody waits for all of them.
                break;
            }
        }
        Ok(())
    }

    fn rewrite(&self, log: &mut Log, segment: &Segment) -> Result<()> {
        let topics: Vec<(Key, Topic)> = {
            let objects = self.objects.read();
            let topic = |key: &Key| match objects.get(key) {
                Some(Entry::Topic(topic)) => Some((key.clone(), topic.clone())),
                _ => None,
            };
            match log.topics_in(segment) {
                Some(keys) => keys.iter().filter_map(topic).collect(),
                None => {
                    // What lives is in memory too, so that nothing is lost; it only has to be looked for.
                    tracing::error!(segment = segment.number, "a segment of the log of topics is damaged; it is written anew");
                    objects.keys().filter_map(topic).collect()
                }
            }
        };
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut moved = Vec::new();
        for (key, topic) in topics {
            for (sequence, message) in topic.feed.stored_in(segment) {
                bytes += message.len();
                // Of the topic, only what is told with the last message counts.
                let last = sequence + 1 == topic.feed.next();
                records.push(Record::Message(Message {
                    life: topic.life,
                    sequence,
                    created: topic.created,
                    modified: topic.modified,
                    key: key.clone(),
                    etag: topic.etag.clone(),
                    attributes: if last { topic.attributes.clone() } else { Default::default() },
                    bytes: message,
                }));
                moved.push((Arc::clone(&topic.feed), sequence));
                if bytes >= MOST_BYTES || records.len() >= MOST {
                    Self::write_again(log, &mut records, &mut moved)?;
                    bytes = 0;
                }
            }
        }
        Self::write_again(log, &mut records, &mut moved)
    }

    fn write_again(log: &mut Log, records: &mut Vec<Record>, moved: &mut Vec<(Arc<crate::feed::Feed>, u64)>) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let stored = log.append(&std::mem::take(records))?;
        for ((feed, sequence), stored) in moved.drain(..).zip(stored) {
            feed.moved(sequence, stored);
        }
        Ok(())
    }
}
