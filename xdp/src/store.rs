//! The maps of one family, as they are written.

use tandem_core::plane::{Cause, Full};
use tandem_xdp_layout::{Address, FrontendKey, FrontendWord, ListIndex, Maps, ServiceWord, SourceKey, Switch};

/// Why a map was not written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The map takes no more, and a larger one was not to be had.
    #[error("the map {0}")]
    Full(Full),
    /// The kernel refused.
    #[error("{0}")]
    Failed(#[source] Cause),
}

/// The words of lists alone, by their places.
pub(crate) struct Lists<W>(pub(crate) W);

impl<A: Address, W: Fn(u32) -> Option<u64>> Maps<A> for Lists<W> {
    fn frontend(&self, _: &FrontendKey<A>) -> Option<u64> {
        None
    }

    fn has_address(&self, _: &A) -> bool {
        false
    }

    fn service(&self, _: ListIndex) -> Option<u64> {
        None
    }

    fn word(&self, place: u32) -> Option<u64> {
        (self.0)(place)
    }
}

/// The maps of one family. Each call is one write that programs see whole or not at all.
pub trait Store<A: Address>: Maps<A> + Send {
    /// Has all programs read these maps, if some may have others. It comes before every change.
    fn prepare(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether everything that was asked since the last time could be read. What could not be read was answered as missing.
    fn sound(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Adds a frontend, or gives it another word.
    fn put_frontend(&mut self, key: &FrontendKey<A>, word: FrontendWord) -> Result<(), StoreError>;

    /// Removes a frontend, if it is there.
    fn remove_frontend(&mut self, key: &FrontendKey<A>) -> Result<(), StoreError>;

    /// Looks at everything in the kernel again. Others may have written there.
    fn look(&mut self) -> Result<(), StoreError>;

    /// Reads all frontends at once, so that they need not be asked one by one until [`Self::forget`].
    fn remember(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Asks the kernel from now on.
    fn forget(&mut self) {}

    /// All frontends.
    fn frontends(&self) -> Result<Vec<(FrontendKey<A>, FrontendWord)>, StoreError>;

    /// Adds an address of the node that takes nodePort traffic.
    fn put_address(&mut self, addr: A) -> Result<(), StoreError>;

    /// Removes such an address, if it is there.
    fn remove_address(&mut self, addr: A) -> Result<(), StoreError>;

    /// All such addresses.
    fn addresses(&self) -> Result<Vec<A>, StoreError>;

    /// Lets a range of sources, whose first bits count, reach a frontend that only some may reach. If there is no room for it, nftables
    /// goes on to let them in.
    fn put_source(&mut self, key: SourceKey<A>, bits: u32) -> Result<(), StoreError>;

    /// Takes such a range away, if it is there.
    fn remove_source(&mut self, key: SourceKey<A>, bits: u32) -> Result<(), StoreError>;

    /// All such ranges.
    fn sources(&self) -> Result<Vec<(SourceKey<A>, u32)>, StoreError>;

    /// Writes a word of the lists. Nothing may lead to it yet.
    fn put_word(&mut self, place: u32, word: u64) -> Result<(), StoreError>;

    /// Writes the word of a number. Whoever sees it sees all words that were written before.
    fn put_service(&mut self, index: ListIndex, word: ServiceWord) -> Result<(), StoreError>;

    /// The Service ports that have counted connections, by the number of their list of all endpoints.
    fn counted(&self) -> Result<Vec<ListIndex>, StoreError>;

    /// Has the Service port of a number begin to count from zero.
    fn count_anew(&mut self, port: ListIndex) -> Result<(), StoreError>;

    /// Has the UDP sockets that nftables serves at this moment stay with it. The family is off, and is switched on next.
    fn hold_sockets(&mut self) -> Result<(), StoreError>;

    /// Switches the family, or gives it other settings.
    fn set_switch(&mut self, switch: Switch);

    /// The switch as it is.
    fn switch(&self) -> Switch;

    /// How many words the lists can have.
    fn words(&self) -> u32;

    /// Makes room for at least so many words. Those that are there keep their places.
    fn grow(&mut self, words: u32) -> Result<(), StoreError>;

    /// A number that [`Self::passed`] reaches once no program is running that runs now.
    fn ticket(&mut self) -> u64;

    /// The largest number of which that is so.
    fn passed(&self) -> u64;
}
