//! The log alone: what it keeps, what it gives up, and how it fails.

use super::*;
use crate::broker::queue::{QueueBounds, QueueConfig};
use crate::broker::{Broker, Opened};
use crate::ids::ClientId;
use crate::limits::Limits;
use crate::message::{Message, QoS};
use crate::storage::{Fault, Faults, FaultyJournal, Journal, MemoryDisk, MemoryJournal};
use crate::time::Timestamp;
use crate::topic::TopicName;

const SESSION: SessionNumber = SessionNumber(1);

struct Bed {
    disk: MemoryDisk,
    faults: Faults,
    log: Log,
    committer: Committer,
    queue: Arc<Queue>,
}

impl Bed {
    fn new() -> Self {
        Self::over(MemoryDisk::default()).0
    }

    fn over(disk: MemoryDisk) -> (Self, Recovered) {
        let faults = Faults::default();
        let journal = FaultyJournal::new(Box::new(MemoryJournal::open(&disk)), faults.clone());
        let limits = Limits { log_bytes: 1_000, ..Limits::default() };
        let opened = Broker::open(Box::new(journal), &limits, Arc::default());
        let Opened { broker, committer, recovered } = opened.unwrap();
        let log = broker.log().clone();
        let bounds = QueueBounds { messages_max: 60_000, bytes_max: u32::MAX };
        let id = ClientId::parse("c").unwrap();
        let config = Arc::new(QueueConfig { bounds, metrics: Arc::default() });
        let queue = Arc::new(Queue::new(id, Some(SESSION), config));
        (Self { disk, faults, log, committer, queue }, recovered)
    }

    fn publish(&self, payload: &[u8]) -> Position {
        let topic = TopicName::parse("t").unwrap();
        let payload = Bytes::copy_from_slice(payload);
        let message = Message::new(topic, payload, Arc::default(), Timestamp::default());
        let delivery = Delivery::new(Arc::new(message), QoS::AtLeastOnce);
        assert!(self.queue.reserve(&delivery));
        let recipients = vec![Recipient { session: SESSION, queue: self.queue.clone(), delivery }];
        self.log.append(Entry { recipients, ..Entry::default() })
    }

    fn acknowledge(&self, id: u16) {
        self.log.append(Event::Acknowledged(SESSION, PacketId::new(id).unwrap()).into());
    }

    /// Numbers and sizes of the records that are kept.
    fn records(&self) -> Vec<(u64, usize)> {
        let records = MemoryJournal::open(&self.disk).records(0, 9_999).unwrap();
        records.into_iter().map(|(number, bytes)| (number, bytes.len())).collect()
    }
}

#[test]
fn a_record_goes_when_everything_in_it_is_done_with() {
    let mut bed = Bed::new();
    for _ in 0..3 {
        bed.publish(b"x");
        bed.committer.commit_waiting().unwrap();
    }
    bed.acknowledge(2);
    bed.committer.commit_waiting().unwrap();
    assert_eq!(bed.records().len(), 4, "the first is in use and holds the others");
    bed.acknowledge(1);
    bed.committer.commit_waiting().unwrap();
    let numbers: Vec<_> = bed.records().iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [3, 4, 5]);
    bed.acknowledge(3);
    bed.committer.commit_waiting().unwrap();
    assert_eq!(bed.records(), []);
    assert!(!bed.committer.commit_waiting().unwrap(), "nothing waits");
}

#[test]
fn what_lives_long_is_copied_forward_so_that_the_journal_does_not_grow() {
    let mut bed = Bed::new();
    bed.publish(b"lives long");
    bed.committer.commit_waiting().unwrap();
    let payload = vec![7; 1_000_000];
    for n in 0..60_u16 {
        bed.publish(&payload);
        bed.committer.commit_waiting().unwrap();
        bed.acknowledge(n + 2);
        bed.committer.commit_waiting().unwrap();
    }
    let bytes: usize = bed.records().iter().map(|(_, bytes)| bytes).sum();
    assert!(bytes < 20_000_000, "{bytes} bytes for one message");
    let (_, recovered) = Bed::over(bed.disk.clone());
    let session = &recovered.sessions[&SESSION];
    assert_eq!(session.deliveries.len(), 1);
    assert_eq!(&session.deliveries[0].message.payload[..], b"lives long");
    assert_eq!(session.deliveries[0].packet_id, PacketId::new(1));
}

#[test]
fn messages_come_back_in_their_order_whichever_record_they_stand_in() {
    let mut bed = Bed::new();
    for n in 0..20_u8 {
        bed.publish(&[n; 10]);
        bed.committer.commit_waiting().unwrap();
    }
    let payload = vec![7; 5_000_000];
    for n in 0..8_u16 {
        bed.publish(&payload);
        bed.committer.commit_waiting().unwrap();
        bed.acknowledge(n + 21);
        bed.committer.commit_waiting().unwrap();
    }
    assert!(bed.records()[0].0 > 20, "all were copied");
    let (_, recovered) = Bed::over(bed.disk.clone());
    let payloads: Vec<_> =
        recovered.sessions[&SESSION].deliveries.iter().map(|it| it.message.payload[0]).collect();
    assert_eq!(payloads, (0..20).collect::<Vec<u8>>());
}

#[test]
fn nothing_is_handed_on_before_it_is_durable_and_nothing_twice() {
    for fault in [Fault::Refused, Fault::AnswerLost] {
        let mut bed = Bed::new();
        let position = bed.publish(b"x");
        bed.faults.fail_next([Some(fault), Some(Fault::Refused)]);
        assert!(bed.committer.commit_waiting().is_err());
        assert!(bed.committer.commit_waiting().is_err(), "the journal cannot be opened yet");
        assert_eq!((bed.queue.take(9).len(), bed.log.committed()), (0, Position(0)));
        bed.publish(b"y");
        assert!(bed.committer.commit_waiting().unwrap());
        assert_eq!((bed.queue.take(9).len(), bed.log.committed()), (1, position), "{fault:?}");
        assert!(bed.committer.commit_waiting().unwrap());
        assert_eq!(bed.queue.take(9).len(), 1);
        let (_, recovered) = Bed::over(bed.disk.clone());
        assert_eq!(recovered.sessions[&SESSION].deliveries.len(), 2, "{fault:?}");
    }
}

#[test]
fn the_log_is_full_while_too_much_waits_for_the_disk() {
    let mut bed = Bed::new();
    bed.publish(&[0; 900]);
    assert!(!bed.log.is_full());
    bed.publish(&[0; 900]);
    assert!(bed.log.is_full());
    bed.committer.commit_waiting().unwrap();
    assert!(!bed.log.is_full());
}

#[test]
fn the_end_of_a_session_frees_all_that_it_had() {
    let mut bed = Bed::new();
    for _ in 0..3 {
        bed.publish(b"x");
    }
    bed.log.append(Event::Taken(SESSION, PacketId::MIN).into());
    bed.log.append(Event::Released(SESSION, PacketId::MIN).into());
    bed.committer.commit_waiting().unwrap();
    assert_eq!(bed.records().len(), 1);
    bed.log.append(Event::Ended(SESSION).into());
    bed.committer.commit_waiting().unwrap();
    assert_eq!(bed.records(), []);
}

#[test]
fn the_committer_works_on_its_own_thread_until_the_log_is_closed() {
    let Bed { log, committer, queue, .. } = Bed::new();
    let thread = std::thread::spawn(|| committer.run());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let position = log.append(Entry { notify: Some(queue.clone()), ..Entry::default() });
    assert!(runtime.block_on(log.wait(position)));
    log.close();
    thread.join().unwrap();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let event = queue.poll_event(&mut context, false);
    assert_eq!(event, std::task::Poll::Ready(crate::broker::queue::QueueEvent::Durable(position)));
}
