//! What a table loses. The kernel reports each element that is removed, and the end of each transaction. If a transaction
//! removes an element of something that is kept, it must add one like it to the same set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::io::Errno;

use crate::netns::Namespace;
use crate::nft::TABLE;
use crate::notices::{Notice, Notices};

/// Names, and the bytes that their elements contain.
pub(super) type Kept = Arc<Vec<(String, Vec<u8>)>>;

/// Listens in a namespace.
#[derive(Clone, Debug)]
pub(super) struct Losses {
    kept: Kept,
    noted: Arc<Mutex<Noted>>,
}

#[derive(Debug, Default)]
struct Noted {
    /// What was lost since it was last asked.
    lost: Vec<String>,
    /// Those of `kept` that an element was ever added for, by their numbers.
    seen: BTreeSet<usize>,
}

/// The transaction that the kernel reports at present.
struct Transaction {
    kept: Kept,
    /// The elements added less those removed: for each of `kept`, and each set of each family.
    balance: BTreeMap<(usize, u8, String), i64>,
    noted: Noted,
}

impl Losses {
    /// Starts to listen, on a thread that lives as long as the process.
    pub(super) fn watch(namespace: &Namespace, kept: &Kept) -> Result<Self> {
        let mut notices = namespace.run(Notices::open)??;
        let losses = Self {
            kept: Arc::clone(kept),
            noted: Arc::default(),
        };
        let shared = losses.clone();
        namespace.entrance().thread("losses", move || {
            let mut transaction = Transaction::new(&shared.kept);
            loop {
                match notices.next() {
                    Ok(notices) => notices.for_each(|notice| transaction.take(&notice)),
                    Err(Errno::INTR) => {}
                    Err(Errno::NOBUFS) => transaction.noted.lost.push("reports of the kernel".to_owned()),
                    Err(_) => return,
                }
                let new = std::mem::take(&mut transaction.noted);
                let mut noted = shared.lock();
                noted.lost.extend(new.lost);
                noted.seen.extend(new.seen);
            }
        })?;
        Ok(losses)
    }

    /// What was lost since the last call.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().lost)
    }

    /// Fails unless elements were added for everything that is kept. Otherwise no loss of it could be seen.
    pub(super) fn ensure_all_seen(&self) -> Result<()> {
        let unseen = || {
            let seen = &self.lock().seen;
            let unseen = self
                .kept
                .iter()
                .enumerate()
                .filter(|(number, _)| !seen.contains(number));
            unseen.map(|(_, (name, _))| name.clone()).collect::<Vec<_>>()
        };
        let all = crate::eventually(Duration::from_secs(5), || unseen().is_empty().then_some(()));
        ensure!(
            all.is_some(),
            "no element of the tables contains {}",
            unseen().join(", ")
        );
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transaction {
    fn new(kept: &Kept) -> Self {
        Self {
            kept: Arc::clone(kept),
            balance: BTreeMap::new(),
            noted: Noted::default(),
        }
    }

    /// Takes a notice.
    fn take(&mut self, notice: &Notice<'_>) {
        let (element, change) = match notice {
            Notice::Added(element) => (element, 1),
            Notice::Removed(element) => (element, -1),
            Notice::Dropped(table) if *table == TABLE => {
                return self.noted.lost.push("a whole set or table".to_owned());
            }
            Notice::Generation => return self.end(),
            Notice::Dropped(_) | Notice::Other => return,
        };
        if element.table() != Some(TABLE) {
            return;
        }
        for (number, (_, bytes)) in self.kept.iter().enumerate() {
            if element.contains(bytes) {
                let place = (number, element.family, element.set().unwrap_or_default().to_owned());
                *self.balance.entry(place).or_default() += change;
                if change > 0 {
                    self.noted.seen.insert(number);
                }
            }
        }
    }

    /// The transaction is complete.
    fn end(&mut self) {
        for ((number, _, set), balance) in std::mem::take(&mut self.balance) {
            if balance < 0 {
                let name = &self.kept[number].0;
                self.noted
                    .lost
                    .push(format!("{} element(s) of {name} in {set}", -balance));
            }
        }
    }
}
