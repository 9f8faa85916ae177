//! The partition against a model that is too simple to be wrong: a list of records, walked from the
//! front.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Deliver { lane: Option<u64> },
    Start,
    Succeed(prop::sample::Index),
    Fail(prop::sample::Index, Failure),
    Publish,
    Finish(prop::sample::Index, PublishResult),
    Tick(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let failure = prop_oneof![
        3 => Just(Failure::Retryable),
        1 => Just(Failure::Fatal),
        1 => Just(Failure::RetryAfter(3 * SECOND)),
    ];
    let result = prop_oneof![
        4 => Just(PublishResult::Acknowledged),
        2 => Just(PublishResult::Failed),
        1 => Just(PublishResult::Refused),
        2 => Just(PublishResult::TooLarge),
    ];
    prop_oneof![
        6 => prop_oneof![1 => Just(None), 4 => (0_u64..4).prop_map(Some)].prop_map(|lane| Step::Deliver { lane }),
        8 => Just(Step::Start),
        5 => any::<prop::sample::Index>().prop_map(Step::Succeed),
        3 => (any::<prop::sample::Index>(), failure).prop_map(|(index, failure)| Step::Fail(index, failure)),
        2 => Just(Step::Publish),
        2 => (any::<prop::sample::Index>(), result).prop_map(|(index, result)| Step::Finish(index, result)),
        2 => (1_u64..6).prop_map(Step::Tick),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Is {
    Pending,
    Running(Ticket),
    WaitingUntil(Moment),
    ToPublish,
    Publishing(Ticket),
    PublishWaitingUntil(Moment),
    Parked,
    Settled,
}

struct Record {
    lane: Option<u64>,
    is: Is,
    attempts: u32,
    publish_failures: u32,
    headers: FailureHeaders,
}

#[derive(Default)]
struct Model {
    records: Vec<Record>,
    now: u64,
}

impl Model {
    fn may_start(&self, index: usize) -> bool {
        let record = &self.records[index];
        let due = match record.is {
            Is::Pending => true,
            Is::WaitingUntil(moment) => moment <= at(self.now),
            _ => false,
        };
        let earlier = &self.records[..index];
        due && (record.lane.is_none()
            || earlier
                .iter()
                .all(|other| other.lane != record.lane || other.is == Is::Settled))
    }

    fn startable(&self) -> usize {
        (0..self.records.len())
            .filter(|&index| self.may_start(index))
            .count()
    }

    fn running(&self) -> usize {
        self.records
            .iter()
            .filter(|record| matches!(record.is, Is::Running(_)))
            .count()
    }

    fn watermark(&self) -> usize {
        self.records
            .iter()
            .position(|record| record.is != Is::Settled)
            .unwrap_or(self.records.len())
    }

    fn pick(
        &self,
        index: prop::sample::Index,
        ticket: fn(&Record) -> Option<Ticket>,
    ) -> Option<(usize, Ticket)> {
        let all: Vec<_> = self
            .records
            .iter()
            .enumerate()
            .filter_map(|(index, record)| Some((index, ticket(record)?)))
            .collect();
        (!all.is_empty()).then(|| *index.get(&all))
    }
}

fn running(record: &Record) -> Option<Ticket> {
    if let Is::Running(ticket) = record.is {
        Some(ticket)
    } else {
        None
    }
}

fn publishing(record: &Record) -> Option<Ticket> {
    if let Is::Publishing(ticket) = record.is {
        Some(ticket)
    } else {
        None
    }
}

proptest! {
    #[test]
    fn starts_lanes_and_watermark_agree_with_a_list_of_records(steps in proptest::collection::vec(any_step(), 1..200)) {
        let mut partition = partition(PartitionSettings { concurrency: 3, ..settings() });
        let mut model = Model::default();
        let mut guard = never_holds();
        for step in steps {
            let now = at(model.now);
            match step {
                Step::Deliver { lane } => {
                    let offset = model.records.len() as i64;
                    prop_assert_eq!(partition.deliver(delivery(offset, lane), now), Delivered::Queued);
                    let headers = FailureHeaders::All;
                    model.records.push(Record { lane, is: Is::Pending, attempts: 0, publish_failures: 0, headers });
                }
                Step::Start => match next(&mut partition) {
                    None => prop_assert!(model.running() == 3 || model.startable() == 0),
                    Some(start) => {
                        let index = start.offset.get() as usize;
                        prop_assert!(model.running() < 3 && model.may_start(index), "{} must not start", index);
                        let record = &mut model.records[index];
                        record.attempts += 1;
                        prop_assert_eq!(start.attempt, record.attempts);
                        record.is = Is::Running(start.ticket);
                    }
                },
                Step::Succeed(index) => {
                    if let Some((index, ticket)) = model.pick(index, running) {
                        let attempts = model.records[index].attempts;
                        let verdict = partition.succeed(ticket, Success::Done);
                        prop_assert_eq!(verdict, settled(Settlement::Done, index as i64, attempts));
                        model.records[index].is = Is::Settled;
                        prop_assert_eq!(partition.succeed(ticket, Success::Done), Verdict::Stale);
                    }
                }
                Step::Fail(index, failure) => {
                    if let Some((index, ticket)) = model.pick(index, running) {
                        let record = &mut model.records[index];
                        let expected = match failure {
                            Failure::Retryable if record.attempts == 1 => waiting(SECOND),
                            Failure::RetryAfter(delay) if record.attempts == 1 => waiting(delay),
                            _ => Verdict::Publishing,
                        };
                        record.is = match expected {
                            Verdict::Waiting { delay, .. } => Is::WaitingUntil(now + delay),
                            _ => Is::ToPublish,
                        };
                        prop_assert_eq!(partition.fail(ticket, failure.into(), 0, now, &mut guard), expected);
                    }
                }
                Step::Publish => {
                    let expected = model.records.iter().filter(|record| record.is == Is::ToPublish).count();
                    match partition.next_publish() {
                        None => prop_assert_eq!(expected, 0),
                        Some(request) => {
                            let record = &mut model.records[request.offset.get() as usize];
                            prop_assert_eq!(record.is, Is::ToPublish);
                            prop_assert_eq!(request.headers, record.headers);
                            record.is = Is::Publishing(request.ticket);
                        }
                    }
                }
                Step::Finish(index, result) => {
                    if let Some((index, ticket)) = model.pick(index, publishing) {
                        let record = &mut model.records[index];
                        let expected = match result {
                            PublishResult::Acknowledged => settled(Settlement::DeadLettered, index as i64, record.attempts),
                            PublishResult::Failed => waiting([1, 2, 4][record.publish_failures.min(2) as usize] * SECOND),
                            PublishResult::Refused => Verdict::Parked { reason: ParkReason::Refused },
                            PublishResult::TooLarge if record.headers == FailureHeaders::Fewest => {
                                Verdict::Parked { reason: ParkReason::TooLarge }
                            }
                            PublishResult::TooLarge => Verdict::Publishing,
                        };
                        record.is = match expected {
                            Verdict::Settled { .. } => Is::Settled,
                            Verdict::Waiting { delay, .. } => Is::PublishWaitingUntil(now + delay),
                            Verdict::Publishing => {
                                record.headers = match record.headers {
                                    FailureHeaders::All => FailureHeaders::WithoutError,
                                    _ => FailureHeaders::Fewest,
                                };
                                Is::ToPublish
                            }
                            _ => Is::Parked,
                        };
                        record.publish_failures += u32::from(result == PublishResult::Failed);
                        prop_assert_eq!(partition.publish_finished(ticket, result, 0, now), expected);
                    }
                }
                Step::Tick(seconds) => {
                    model.now += seconds;
                    partition.tick(at(model.now));
                    for record in &mut model.records {
                        if matches!(record.is, Is::PublishWaitingUntil(moment) if moment <= at(model.now)) {
                            record.is = Is::ToPublish;
                        }
                    }
                }
            }
            prop_assert_eq!(partition.watermark(), Some(Position::new(model.watermark() as i64)));
            prop_assert_eq!(partition.running(), model.running());
            prop_assert_eq!(partition.ready(), model.startable());
            let unsettled = model.records.iter().filter(|record| record.is != Is::Settled).count();
            prop_assert_eq!(partition.pending(), unsettled);
            prop_assert_eq!(partition.pending_bytes(), unsettled * 10);
            let parked = model.records.iter().filter(|record| record.is == Is::Parked).count();
            prop_assert_eq!(partition.parked(), parked);
        }
    }
}
