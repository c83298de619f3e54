//! Flows in another data plane's records, judged by a worker to whom connection tracking is a stub.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use tandem_core::flows::Translation;

use super::super::conntrack::{Each, EntriesError, Filter, Name, Tracking};
use super::*;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it waits to see that something does not happen.
const A_WHILE: Duration = Duration::from_millis(50);

/// Connection tracking that has no entry, or that cannot be read.
struct Stub {
    broken: bool,
}

impl Tracking<V4> for Stub {
    fn read(&mut self, _: &Filter<V4>, _: &mut Each<'_, V4>) -> Result<(), EntriesError> {
        if self.broken {
            return Err(EntriesError::Read(io::ErrorKind::PermissionDenied.into()));
        }
        Ok(())
    }

    fn delete(&mut self, _: &Name) -> Result<bool, EntriesError> {
        Ok(false)
    }
}

/// Records in memory. A clone shows the same ones.
#[derive(Clone, Default)]
struct Memory {
    flows: Arc<Mutex<Vec<Translation<V4>>>>,
    broken: Arc<AtomicBool>,
}

impl FlowRecords<V4> for Memory {
    fn cut(&self, wrong: &mut dyn FnMut(Translation<V4>) -> bool) -> io::Result<Found> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::Error::other("no such map"));
        }
        let mut found = Found::default();
        for flow in self.now() {
            found.read += 1;
            if wrong(flow) {
                self.flows.lock().unwrap().retain(|other| *other != flow);
                found.cut += 1;
            }
        }
        Ok(found)
    }
}

impl Memory {
    fn of(flows: &[Translation<V4>]) -> Self {
        let memory = Self::default();
        memory.flows.lock().unwrap().extend(flows);
        memory
    }

    fn begins(&self, flow: Translation<V4>) {
        self.flows.lock().unwrap().push(flow);
    }

    fn now(&self) -> Vec<Translation<V4>> {
        self.flows.lock().unwrap().clone()
    }

    fn is_shared(&self) -> bool {
        Arc::strong_count(&self.flows) > 1
    }
}

/// A flow to the Service.
fn to(last: u8) -> Translation<V4> {
    Translation {
        to: Endpoint {
            addr: ADDRESS,
            port: port(53),
        },
        with: endpoint(last),
    }
}

/// A flow to an address that no Service has.
fn to_nobody(last: u8) -> Translation<V4> {
    Translation {
        to: Endpoint {
            addr: [10, 96, 0, 99].into(),
            port: port(53),
        },
        with: endpoint(last),
    }
}

fn working(broken: bool) -> Reconciler<V4> {
    let reconciler = Reconciler::<V4>::without_worker();
    let shared = reconciler.shared.clone();
    thread::spawn(move || worker::run(&shared, &mut Stub { broken }));
    reconciler
}

fn serve(reconciler: &mut Reconciler<V4>, endpoints: &[u8]) {
    reconciler.stage(&key(), &[plan(Protocol::Udp, endpoints)]);
    reconciler.commit();
}

/// Waits until the status is like this.
fn wait(reconciler: &Reconciler<V4>, is: impl Fn(&Status) -> bool) -> Arc<Status> {
    let start = Instant::now();
    loop {
        let status = reconciler.report().load();
        if is(&status) {
            return status;
        }
        assert!(start.elapsed() < PATIENCE, "{status:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn wrong_records_are_cut_and_right_ones_stay_and_one_that_comes_late_is_found_a_second_later() {
    let mut reconciler = working(false);
    let records = Memory::of(&[to(1), to(2), to(3), to_nobody(1)]);
    reconciler.seat().put(records.clone());
    serve(&mut reconciler, &[1, 2]);
    thread::sleep(A_WHILE);
    assert_eq!(records.now().len(), 4, "not everything is loaded");
    reconciler.all_loaded();
    let status = wait(&reconciler, |status| status.reconciliations == 1);
    assert_eq!(records.now(), [to(1), to(2)]);
    assert_eq!((status.cut, status.last_read, status.turned), (2, 4, 0));

    serve(&mut reconciler, &[2]);
    wait(&reconciler, |status| status.reconciliations == 2);
    assert_eq!(records.now(), [to(2)]);
    records.begins(to(1));
    // One second look may have been due before it came.
    let looks = reconciler.report().load().second_looks;
    wait(&reconciler, |status| status.second_looks > looks && status.cut == 4);
    assert_eq!(records.now(), [to(2)]);
}

#[test]
fn records_that_come_after_everything_is_loaded_are_judged_all_the_same_even_if_no_service_has_udp() {
    let mut reconciler = working(false);
    reconciler.all_loaded();
    let (first, seat) = (Memory::of(&[to(1)]), reconciler.seat());
    seat.put(first.clone());
    wait(&reconciler, |status| status.cut == 1);
    assert_eq!(first.now(), []);
    let second = Memory::of(&[to(2)]);
    seat.put(second.clone());
    wait(&reconciler, |status| status.cut == 2);
    assert!(!first.is_shared(), "nobody holds the first ones");
    seat.clear();
    assert!(!second.is_shared());
    second.begins(to(1));
    serve(&mut reconciler, &[2]);
    wait(&reconciler, |status| status.reconciliations == 3);
    assert_eq!(second.now(), [to(1)]);
}

#[test]
fn a_record_that_is_newer_than_the_ledger_is_judged_by_the_ledger_that_comes() {
    let mut reconciler = working(false);
    serve(&mut reconciler, &[1]);
    reconciler.all_loaded();
    reconciler.stage(&key(), &[plan(Protocol::Udp, &[2])]);
    reconciler.begin(&Delta::default());
    let records = Memory::of(&[to(1), to(2)]);
    reconciler.seat().put(records.clone());
    thread::sleep(A_WHILE);
    assert_eq!(records.now().len(), 2, "rows are on their way");
    reconciler.commit();
    wait(&reconciler, |status| status.cut == 1);
    assert_eq!(records.now(), [to(2)]);
}

#[test]
fn records_are_judged_though_connection_tracking_cannot_be_read() {
    let mut reconciler = working(true);
    let records = Memory::of(&[to(1), to(2)]);
    reconciler.seat().put(records.clone());
    serve(&mut reconciler, &[2]);
    reconciler.all_loaded();
    let status = wait(&reconciler, |status| status.failures > 0);
    assert_eq!(records.now(), [to(2)]);
    assert_eq!(status.cut, 1);
}

#[test]
fn records_that_cannot_be_read_are_named_and_read_again() {
    let mut reconciler = working(false);
    let records = Memory::of(&[to(1)]);
    records.broken.store(true, Ordering::Relaxed);
    reconciler.seat().put(records.clone());
    serve(&mut reconciler, &[2]);
    reconciler.all_loaded();
    let status = wait(&reconciler, |status| status.failures > 0);
    let said = status.last_error.as_deref();
    assert_eq!(said, Some("XDP's records of flows cannot be read: no such map"));
    records.broken.store(false, Ordering::Relaxed);
    serve(&mut reconciler, &[2, 3]);
    // One more endpoint makes no flow wrong. One that goes has everything checked that failed before.
    serve(&mut reconciler, &[2]);
    let status = wait(&reconciler, |status| status.cut == 1);
    assert_eq!((status.last_error.as_deref(), records.now()), (None, Vec::new()));
}
