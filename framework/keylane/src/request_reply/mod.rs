//! A question through Kafka, and its answer: for the few cases in which it has to be Kafka.
//!
//! **Ask over HTTP or gRPC where you can.** Kafka keeps a question whose asker has gone, answers it
//! late, and may answer it twice; an outage leaves a queue of questions that are of no use any
//! longer. What speaks for Kafka is a network in which nothing else connects the two sides, or an
//! order with the other events of a key.
//!
//! ```text
//! Requester ── question, with topic, partition and correlation id ──▶ questions ──▶ Subscription
//!     ▲                                                                               │ Responder
//!     └────────── its partition of answers, from its end on ◀── answers ◀─────────────┘
//! ```
//!
//! A [`Requester`] writes questions as tasks, and reads one partition of the answer topic. It joins
//! no group: nothing is left behind when it ends, and it is ready as soon as the end of that
//! partition is known. Requesters share the partitions, and each takes out its own answers.
//!
//! The other side is an ordinary subscription, with retries, order and dead letters. Its processor
//! answers with a [`Responder`].
//!
//! # What is not guaranteed
//! - [`AskError::NoAnswer`] says nothing about the question: it may be answered later, and its work
//!   be done. So a question that changes something has to be one that may be asked twice.
//! - A question may be processed twice, as every task. The first answer counts.
//! - An answer is lost where the requester ends, or its partition of answers is deleted meanwhile.
//!
//! # Examples
//! ```no_run
//! use std::time::Duration;
//!
//! use keylane::request_reply::{Requester, Responder};
//! use keylane::{Decode, Json, NewTask, Subscription, Task, TaskError, TaskProducer};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The side that answers.
//! let producer = TaskProducer::builder("parking-answers").application_id("tariffs").start().await?;
//! let responder = Responder::new(producer);
//! let answering = Subscription::builder("tariffs", "parking-questions")
//!     .start(Json, move |question: Task<u32>| {
//!         let responder = responder.clone();
//!         async move {
//!             let price = NewTask::json(&(question.payload() * 2))?;
//!             responder.answer(&question, price).await?;
//!             Ok::<(), TaskError>(())
//!         }
//!     })
//!     .await?;
//!
//! // The side that asks.
//! let requester = Requester::builder("parking-questions", "parking-answers")
//!     .application_id("gate-7")
//!     .start()
//!     .await?;
//! let answer = requester.ask(NewTask::json(&21)?.key("B-KL 42")).within(Duration::from_secs(2)).await?;
//! let price: u32 = Json.decode(&answer)?;
//! println!("{price}");
//! # drop(answering);
//! # Ok(()) }
//! ```

mod answers;
mod builder;
mod error;
mod requester;
mod responder;
mod waiting;

pub use builder::RequesterBuilder;
pub use error::{AskError, RequesterError};
pub use requester::{Ask, Requester};
pub use responder::{Answered, Responder};

/// Where the answer is wanted, and which question it is to.
const REPLY_TOPIC: &str = "keylane-reply-topic";
const REPLY_PARTITION: &str = "keylane-reply-partition";
const CORRELATION_ID: &str = "keylane-correlation-id";
