#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
use std::collections::HashMap;

use super::*;
use crate::Settings;
use crate::client::Client;
use crate::credentials::CredentialSource;

/// Upstreams at which nobody listens: what is read is up to the test.
fn upstreams(count: usize, select: Select) -> Upstreams {
    let settings = Settings::new("http://127.0.0.1:1".parse().unwrap(), "b");
    let credentials = Arc::new(CredentialSource::with(&settings, &|_: &str| None));
    let remotes = (1..=count).map(|n| {
        let endpoint = format!("http://u{n}.invalid:1").parse().unwrap();
        let client = Arc::new(Client::new(&settings, &endpoint, Arc::clone(&credentials)).unwrap());
        Remote { client, bucket: "b".into(), prefix: "".into(), hasty: false }
    });
    Upstreams::new(remotes, select)
}

fn place(n: usize) -> String {
    format!("http://u{n}.invalid:1/b/")
}

/// Which upstream a read asks.
async fn asked(upstreams: &Upstreams, name: &str) -> (String, Reading) {
    upstreams.read(name, true, |remote| async move { Ok(remote.client.place()) }).await.unwrap()
}

/// A read that takes so many milliseconds at each, or fails.
async fn timed(upstreams: &Upstreams, times: &[Option<u64>]) -> Result<String> {
    let work = |remote: Remote| async move {
        let at = (1..).find(|n| place(*n) == remote.client.place()).unwrap();
        match times[at - 1] {
            Some(time) => {
                tokio::time::sleep(Duration::from_millis(time)).await;
                Ok(remote.client.place())
            }
            None => Err(Error::new(ErrorKind::Unavailable, "test")),
        }
    };
    upstreams.read("k", true, work).await.map(|(place, _)| place)
}

#[tokio::test(start_paused = true)]
async fn the_fastest_is_asked_once_all_are_known() {
    let upstreams = upstreams(3, Select::Fastest);
    let times = [Some(30), Some(10), Some(20)];
    let mut first = Vec::new();
    for _ in 0..3 {
        first.push(timed(&upstreams, &times).await.unwrap());
    }
    first.sort();
    assert_eq!(first, [place(1), place(2), place(3)]);
    for _ in 0..10 {
        assert_eq!(timed(&upstreams, &times).await.unwrap(), place(2));
    }
    // It becomes slow, and what was measured before counts less and less: another one is the fastest by now.
    let times = [Some(30), Some(500), Some(20)];
    let mut last = String::new();
    for _ in 0..100 {
        tokio::time::advance(Duration::from_secs(5)).await;
        last = timed(&upstreams, &times).await.unwrap();
    }
    assert_eq!(last, place(3));
    // One that was not asked for a minute is asked, so that it can become the fastest again.
    tokio::time::advance(UNSEEN).await;
    let mut again = Vec::new();
    for _ in 0..3 {
        again.push(timed(&upstreams, &[Some(1), Some(2), Some(3)]).await.unwrap());
    }
    again.sort();
    assert_eq!(again, [place(1), place(2), place(3)]);
}

#[tokio::test(start_paused = true)]
async fn reads_are_balanced() {
    let upstreams = upstreams(3, Select::Balanced);
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut held = Vec::new();
    for _ in 0..30 {
        let (place, reading) = asked(&upstreams, "k").await;
        *counts.entry(place).or_default() += 1;
        held.push(reading);
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [10, 10, 10]);
    // All that the second has to do is done: it is asked until it has as much to do as the others.
    held.retain(|reading| reading.0.remote.client.place() != place(2));
    for _ in 0..10 {
        let (place_now, reading) = asked(&upstreams, "k").await;
        assert_eq!(place_now, place(2));
        held.push(reading);
    }
    drop(held);
    assert!(upstreams.tell().iter().all(|upstream| upstream.in_flight == 0));
}

#[tokio::test(start_paused = true)]
async fn a_key_stays_where_it_is() {
    let three = upstreams(3, Select::Affinity);
    let names: Vec<String> = (0..300).map(|n| format!("dir/key-{n}")).collect();
    let mut homes = HashMap::new();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for name in &names {
        let (home, _) = asked(&three, name).await;
        assert_eq!(asked(&three, name).await.0, home);
        *counts.entry(home.clone()).or_default() += 1;
        homes.insert(name, home);
    }
    assert!(counts.values().all(|count| (60..140).contains(count)), "{counts:?}");
    // Another gateway has them in the same places, and one that goes takes only its own keys with it.
    let two = upstreams(2, Select::Affinity);
    for name in &names {
        let home = asked(&two, name).await.0;
        assert!(home == homes[name] || homes[name] == place(3));
    }
}

#[tokio::test(start_paused = true)]
async fn errors_and_work_weigh_as_much_as_slowness() {
    let upstreams = upstreams(2, Select::Adaptive);
    for _ in 0..2 {
        timed(&upstreams, &[Some(10), Some(15)]).await.unwrap();
    }
    assert_eq!(timed(&upstreams, &[Some(10), Some(15)]).await.unwrap(), place(1));
    // Twice 10 ms of work is more than 15.
    let busy = Reading::begin(&upstreams.list[0]);
    assert_eq!(timed(&upstreams, &[Some(10), Some(15)]).await.unwrap(), place(2));
    drop(busy);
    assert_eq!(timed(&upstreams, &[Some(10), Some(15)]).await.unwrap(), place(1));
    // It asks for patience now and then: what it is asked for has to be read elsewhere.
    for _ in 0..4 {
        let work = |remote: Remote| async move {
            tokio::time::sleep(Duration::from_millis(15)).await;
            if remote.client.place() == place(1) { Err(Error::new(ErrorKind::Busy, "test")) } else { Ok(remote.client.place()) }
        };
        assert_eq!(upstreams.read("k", true, work).await.unwrap().0, place(2));
    }
    for _ in 0..5 {
        assert_eq!(timed(&upstreams, &[Some(10), Some(15)]).await.unwrap(), place(2));
    }
    assert!(upstreams.tell()[0].available && upstreams.tell()[0].faults > 0.1);
}

#[tokio::test(start_paused = true)]
async fn a_read_goes_on_elsewhere_and_what_failed_is_left_out() {
    for select in [Select::Fastest, Select::Balanced, Select::Affinity, Select::Adaptive] {
        let upstreams = upstreams(3, select);
        for _ in 0..20 {
            assert_eq!(timed(&upstreams, &[None, Some(5), None]).await.unwrap(), place(2), "{select:?}");
        }
        let told = upstreams.tell();
        // Which was asked at all is a matter of choice; whoever was and failed is not asked again.
        assert!(told[1].available && told[1].faults == 0.0 && told[1].latency == Some(Duration::from_millis(5)));
        assert!(told.iter().all(|upstream| upstream.available == (upstream.faults == 0.0)), "{told:?}");
        // All fail: each is asked once, and the error is told.
        assert_eq!(*timed(&upstreams, &[None, None, None]).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(upstreams.tell().iter().all(|upstream| !upstream.available));
        // With nobody left, they are asked all the same, and one that answers is back.
        assert_eq!(timed(&upstreams, &[None, None, Some(5)]).await.unwrap(), place(3));
        assert!(upstreams.tell()[2].available && !upstreams.tell()[0].available);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_has_not_caught_up_is_not_believed() {
    let upstreams = upstreams(2, Select::Affinity);
    let (home, name) = {
        let mut found = None;
        for n in 0..100 {
            let name = format!("k{n}");
            let (home, _) = asked(&upstreams, &name).await;
            if home == place(2) {
                found = Some((home, name));
                break;
            }
        }
        found.unwrap()
    };
    let of = |primary: Result<(), ErrorKind>, replica: Result<(), ErrorKind>| {
        move |remote: Remote| {
            let (outcome, place_now) = (if remote.client.place() == place(1) { primary } else { replica }, remote.client.place());
            async move { outcome.map(|()| place_now).map_err(|kind| Error::new(kind, "test")) }
        }
    };
    let missing = Err(ErrorKind::NotFound);
    assert_eq!(upstreams.read(&name, true, of(missing, Ok(()))).await.unwrap().0, home);
    assert_eq!(upstreams.read(&name, true, of(Ok(()), missing)).await.unwrap().0, place(1));
    assert_eq!(upstreams.read(&name, true, of(Ok(()), Err(ErrorKind::PreconditionFailed))).await.unwrap().0, place(1));
    let neither = upstreams.read(&name, true, of(missing, missing)).await.unwrap_err();
    assert_eq!(*neither.kind(), ErrorKind::NotFound);
    // Nobody can say whether it is there.
    let gone = upstreams.read(&name, true, of(Err(ErrorKind::Unavailable), missing)).await.unwrap_err();
    assert_eq!(*gone.kind(), ErrorKind::Unavailable);
    // What was written a moment ago is not asked of it at all.
    assert_eq!(upstreams.read(&name, false, of(Ok(()), Ok(()))).await.unwrap().0, place(1));
    let error = upstreams.read(&name, false, of(Err(ErrorKind::TimedOut), Ok(()))).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn what_was_written_settles() {
    let recent = Recent::new(Duration::from_secs(60), 4);
    assert!(recent.settled(1) && recent.all_settled());
    recent.written(1);
    assert!(!recent.settled(1) && recent.settled(2) && !recent.all_settled());
    tokio::time::advance(Duration::from_secs(59)).await;
    assert!(!recent.settled(1));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(recent.settled(1) && recent.all_settled());
    let never = Recent::new(Duration::ZERO, 4);
    never.written(1);
    assert!(never.settled(1));
}

#[test]
fn a_mean_forgets() {
    let start = Instant::now();
    let mut mean = Mean::default();
    assert_eq!(mean.get(), None);
    mean.add(1.0, start);
    mean.add(3.0, start);
    assert_eq!(mean.get(), Some(2.0));
    // The two count as one by now.
    mean.add(5.0, start + HALF_LIFE);
    assert_eq!(mean.get(), Some(3.5));
    assert!(mean.is_recent(start + HALF_LIFE) && !mean.is_recent(start + HALF_LIFE + UNSEEN));
}
