//! The policies that the manual has in a table: `docs/src/retries-and-dead-letters.md`.

use std::time::Duration;

use keylane::{Json, Retry};
use keylane_testkit::{Outcome, TestSubscription};

use super::{MINUTE, fails, task};

/// Attempts, rounds of the retry topic, and when the last attempt ended.
async fn given_up(retry: Retry) -> (usize, usize, Duration) {
    let handle = TestSubscription::new(Json, fails).retry(retry).start();
    let task = handle.write(task(1));
    handle.idle().await.unwrap();
    let attempts = handle.attempts(&task);
    let written = u32::try_from(attempts.len()).unwrap();
    assert_eq!(
        handle.outcome(&task),
        Outcome::DeadLettered { attempts: written }
    );
    let last = attempts.last().unwrap().ended_after;
    (attempts.len(), handle.retries().len(), last)
}

#[tokio::test]
async fn by_count_a_delivery_has_its_retries_in_place_in_each_round() {
    for (retry, attempts, rounds) in [
        (Retry::in_place(5), 6, 0),
        (Retry::in_place(5).then_topic().topic_rounds(4), 30, 4),
        (Retry::none().then_topic().topic_rounds(4), 5, 4),
    ] {
        let found = given_up(retry).await;
        assert_eq!((found.0, found.1), (attempts, rounds));
    }
}

/// The last delivery has three attempts at least.
#[tokio::test]
async fn by_time_retries_in_place_come_before_each_round_or_there_are_none() {
    let hour = 60 * MINUTE;
    let (_, rounds, last) = given_up(Retry::for_at_least(hour)).await;
    assert!(rounds == 0 && last >= hour, "{rounds} {last:?}");
    for in_place in [3, 0] {
        let retry = Retry::for_at_least(hour).in_place_first(in_place);
        let (attempts, rounds, last) = given_up(retry.then_topic()).await;
        let in_place = in_place as usize;
        assert_eq!(attempts, (in_place + 1) * rounds + in_place.max(2) + 1);
        assert!(rounds > 4 && last >= hour, "{rounds} {last:?}");
    }
}
