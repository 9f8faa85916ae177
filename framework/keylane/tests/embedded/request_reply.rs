//! Questions and answers through a broker.

use std::sync::Arc;
use std::time::Duration;

use super::common::{self, PATIENCE, eventually};
use futures::future::join_all;
use keylane::error::EnqueueError;
use keylane::request_reply::{Answered, AskError, Requester, RequesterError, Responder};
use keylane::{Decode, Json, NewTask, Subscription, Task, TaskError};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use tokio::sync::{Semaphore, mpsc};

fn broker() -> EmbeddedBroker {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("questions", 2).unwrap();
    broker.create_topic("answers", 2).unwrap();
    broker
}

async fn requester(broker: &EmbeddedBroker) -> Requester {
    Requester::builder("questions", "answers")
        .bootstrap_servers(broker.bootstrap_servers())
        .application_id("gate")
        .startup_timeout(PATIENCE)
        .start()
        .await
        .unwrap()
}

/// Answers a number with its double, once there is a permit; and notes what became of the answer.
async fn doubles(
    broker: &EmbeddedBroker,
    permits: Arc<Semaphore>,
    answered: mpsc::UnboundedSender<Result<Answered, EnqueueError>>,
) -> Subscription {
    let producer = common::producer(broker.bootstrap_servers(), "answers").await;
    let responder = Responder::new(producer);
    let process = move |question: Task<u64>| {
        let (responder, permits, answered) = (responder.clone(), permits.clone(), answered.clone());
        async move {
            permits.acquire().await?.forget();
            let double = NewTask::json(&(question.payload() * 2))?;
            answered.send(responder.answer(&question, double).await)?;
            Ok::<(), TaskError>(())
        }
    };
    Subscription::builder("doubles", "questions")
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        .kafka("session.timeout.ms", "6000")
        .start(Json, process)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_requester_gets_the_answers_to_its_own_questions() {
    let broker = broker();
    let (answered, _seen) = mpsc::unbounded_channel();
    let many = Arc::new(Semaphore::new(1_000));
    let doubles = doubles(&broker, many, answered).await;
    let requesters = join_all((0..3).map(|_| requester(&broker))).await;
    let asks = (0..90_u64).map(|number| {
        let requester = &requesters[number as usize % 3];
        let question = NewTask::json(&number)
            .unwrap()
            .key(format!("k{}", number % 7));
        let asked = requester.ask(question).within(PATIENCE);
        async move {
            let answer = asked.await.unwrap();
            let double: u64 = Json.decode(&answer).unwrap();
            assert_eq!(double, 2 * number);
        }
    });
    join_all(asks).await;
    for requester in &requesters {
        assert_eq!((requester.waiting(), requester.late_answers()), (0, 0));
        requester.close(PATIENCE).await.unwrap();
        let closed = requester.ask(NewTask::new("0")).within(PATIENCE).await;
        assert!(matches!(
            closed,
            Err(AskError::NotAsked(EnqueueError::Closed { .. }))
        ));
    }
    doubles.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_nobody_waits_for_any_longer_is_counted_and_the_next_question_goes_on() {
    let broker = broker();
    let (answered, mut seen) = mpsc::unbounded_channel();
    let permits = Arc::new(Semaphore::new(0));
    let doubles = doubles(&broker, permits.clone(), answered).await;
    let requester = requester(&broker).await;
    let ask = |number: u64| requester.ask(NewTask::json(&number).unwrap().key("k"));
    let short = Duration::from_millis(50);
    let error = ask(1).within(short).await.unwrap_err();
    assert!(
        matches!(error, AskError::NoAnswer { waited } if waited == short),
        "{error:?}"
    );
    assert_eq!((requester.waiting(), requester.late_answers()), (0, 0));
    permits.add_permits(2);
    let answer = ask(2).within(PATIENCE).await.unwrap();
    assert_eq!(Json.decode(&answer).ok(), Some(4_u64));
    eventually("the late answer is counted", || {
        requester.late_answers() == 1
    })
    .await;
    for _ in 0..2 {
        assert_eq!(seen.recv().await.unwrap().unwrap(), Answered::Sent);
    }

    // Tasks that are no question, and one that wants its answer elsewhere.
    permits.add_permits(2);
    let producer = common::producer(broker.bootstrap_servers(), "questions").await;
    producer.enqueue(NewTask::new("3").key("k")).await.unwrap();
    let elsewhere = NewTask::new("4")
        .key("k")
        .header("keylane-reply-topic", "elsewhere")
        .header("keylane-reply-partition", "0")
        .header("keylane-correlation-id", "x");
    producer.enqueue(elsewhere).await.unwrap();
    assert_eq!(seen.recv().await.unwrap().unwrap(), Answered::NotAsked);
    let refused = seen.recv().await.unwrap();
    assert!(matches!(refused, Err(EnqueueError::UnknownTopic { .. })));
    doubles.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_requester_that_cannot_work_does_not_start_and_one_that_is_full_says_so() {
    let broker = broker();
    let builder = |answers: &str| {
        Requester::builder("questions", answers)
            .bootstrap_servers(broker.bootstrap_servers())
            .application_id("gate")
    };
    for (answers, waiting, named) in [("answers", 0, "max_waiting"), ("a b", 1, "answers")] {
        let error = builder(answers)
            .max_waiting(waiting)
            .start()
            .await
            .unwrap_err();
        assert!(
            matches!(error, RequesterError::Invalid { setting, .. } if setting == named),
            "{error}"
        );
    }
    let full = builder("answers").max_waiting(1).start().await.unwrap();
    let mut first = Box::pin(full.ask(NewTask::new("1")).within(PATIENCE));
    assert!(futures::poll!(&mut first).is_pending());
    let error = full
        .ask(NewTask::new("2"))
        .within(PATIENCE)
        .await
        .unwrap_err();
    assert!(matches!(error, AskError::TooManyWaiting { limit: 1 }));
    drop(first);
    assert_eq!(full.waiting(), 0);
}
