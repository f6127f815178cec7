//! Events as a stream: in order, ended with the database, and honest about what was missed.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use ecsdb_compactor::{Event, EventSender, Events, Task};
use futures_core::Stream;

fn poll(events: &mut Events) -> Poll<Option<Event>> {
    Pin::new(events).poll_next(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_listener_that_does_not_keep_up_is_told_how_much_it_missed() {
    let sender = EventSender::default();
    let mut events = sender.listen();
    assert!(poll(&mut events).is_pending() && events.try_next().is_none());
    for _ in 0..300 {
        sender.send(Event::Started(Task::Snapshot));
    }
    sender.close();
    let Some(Event::Missed(missed)) = events.try_next() else { panic!("nothing is said of what was missed") };
    assert!(missed > 0);
    let mut got = 0;
    while let Poll::Ready(Some(event)) = poll(&mut events) {
        assert!(matches!(event, Event::Started(Task::Snapshot)), "{event:?}");
        got += 1;
    }
    assert_eq!(missed + got, 300);
    assert!(matches!(poll(&mut events), Poll::Ready(None)), "the stream ends, and stays ended");
    assert!(events.blocking_next().is_none());
}
