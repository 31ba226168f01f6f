/** When a call is tried again, and how long is waited before. */
const FIRST_DELAY_S = 0.5;
const MAX_DELAY_S = 8;
/** A server that wants to be left alone for longer is not waited for: the caller is told, with `retryAfterS`. */
const MAX_RETRY_AFTER_S = 120;
const RETRIED: ReadonlySet<number> = new Set([408, 429, 500, 502, 503, 504]);

/** Whether the same request may go better. It is always safe: ids made by the SDK make a repeat the same record. */
export function isRetriedStatus(status: number): boolean {
  return RETRIED.has(status);
}

/**
 * How long to wait after a failed attempt, in seconds; null: do not.
 *
 * Exponential with full jitter (Brooker, "Exponential Backoff And Jitter", 2015); behind `Retry-After` the jitter comes on
 * top, so that not all who were sent away come back at once.
 *
 * @param attempt - counted from 0.
 */
export function delayS(attempt: number, retryAfterS: number | null): number | null {
  if (retryAfterS !== null && retryAfterS > MAX_RETRY_AFTER_S) return null;
  return (retryAfterS ?? 0) + Math.random() * Math.min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** attempt);
}

/** What `Retry-After` says, as seconds or as a date (RFC 9110, section 10.2.3); null if it says nothing. */
export function retryAfterS(text: string | null): number | null {
  if (text === null) return null;
  if (/^\d+$/.test(text.trim())) return Number(text);
  const at = Date.parse(text);
  return Number.isNaN(at) ? null : Math.max(0, (at - Date.now()) / 1000);
}

/** Resolves after so many seconds; rejects with the signal's reason as soon as that is aborted. */
export function sleep(seconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, seconds * 1000);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
