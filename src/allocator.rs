//! The allocator of the binary, and of the bare client that `make bench` compares it with: the ratio of both is to tell of what they
//! do. jemalloc, because glibc's takes a twelfth of a push more where messages are allocated on one thread and freed on another
//! (docs/performance.md).
#![expect(unsafe_code, reason = "jemalloc finds its settings by their name, and nothing else in a binary may have it")]

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// What was freed goes back to the system within a second and not within ten: a worker that an outage pauses soon takes no more than it
/// will for the rest of it. `_RJEM_MALLOC_CONF` in the environment says otherwise.
#[unsafe(export_name = "_rjem_malloc_conf")]
static SETTINGS: &[u8; 20] = b"dirty_decay_ms:1000\0";
