//! Pages that take time.

use std::time::Duration;

use hyper::StatusCode;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::serve::site::{Page, SlowPage};

/// Pages that are made at a time; others wait.
const MAX_AT_ONCE: usize = 8;
/// Time to wait and to be made.
const DEADLINE: Duration = Duration::from_secs(10);

pub(super) struct Slow {
    places: Semaphore,
    deadline: Duration,
}

impl Slow {
    pub(super) fn new() -> Self {
        Self {
            places: Semaphore::new(MAX_AT_ONCE),
            deadline: DEADLINE,
        }
    }

    pub(super) async fn page(&self, page: SlowPage) -> Page {
        let made = async {
            let _place = self.places.acquire().await;
            page.await
        };
        let late = |_| Page::refusal(StatusCode::GATEWAY_TIMEOUT, "it takes too long; ask for less, or again");
        timeout(self.deadline, made).await.unwrap_or_else(late)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Waker};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn slow_pages_are_bounded_in_number_and_time() {
        let slow = Slow {
            deadline: Duration::from_millis(50),
            ..Slow::new()
        };
        let begun = Arc::<AtomicUsize>::default();
        let pages = (0..3 * MAX_AT_ONCE).map(|_| {
            let begun = Arc::clone(&begun);
            slow.page(Box::pin(async move {
                begun.fetch_add(1, Ordering::Relaxed);
                std::future::pending().await
            }))
        });
        let mut all = join_all(pages);
        assert!(
            Pin::new(&mut all)
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        assert_eq!(begun.load(Ordering::Relaxed), MAX_AT_ONCE);
        for page in all.await {
            assert_eq!(page.status, StatusCode::GATEWAY_TIMEOUT);
        }
        let page = slow.page(Box::pin(async { Page::new("text/plain", "made") })).await;
        assert_eq!((page.status, &page.body[..]), (StatusCode::OK, &b"made"[..]));
    }
}
