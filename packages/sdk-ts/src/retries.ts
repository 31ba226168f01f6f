/** Which calls are retried, and after which delay. */
const FIRST_DELAY_S = 0.5;
const MAX_DELAY_S = 8;
/** For a longer Retry-After, the call fails with `retryAfterS` instead of waiting. */
const MAX_RETRY_AFTER_S = 120;
const RETRIED: ReadonlySet<number> = new Set([408, 429, 500, 502, 503, 504]);

/** Whether a retry can succeed. Retries are always safe: records have ids, so a repeat is the same record. */
export function isRetriedStatus(status: number): boolean {
  return RETRIED.has(status);
}

/**
 * Returns the seconds to wait after a failed attempt, or null for no retry.
 *
 * Exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", 2015). The jitter is added to `Retry-After`,
 * so that clients do not all return at the same moment.
 *
 * @param attempt - number of the attempt, counted from 0.
 */
export function delayS(attempt: number, retryAfterS: number | null): number | null {
  if (retryAfterS !== null && retryAfterS > MAX_RETRY_AFTER_S) return null;
  return (retryAfterS ?? 0) + Math.random() * Math.min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** attempt);
}

/** Parses `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3). Returns null if it is invalid. */
export function retryAfterS(text: string | null): number | null {
  if (text === null) return null;
  if (/^\d+$/.test(text.trim())) return Number(text);
  const at = Date.parse(text);
  return Number.isNaN(at) ? null : Math.max(0, (at - Date.now()) / 1000);
}

/** Resolves after `seconds`. Rejects with the reason of the signal when it is aborted. */
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
