/** The end of a process: queues that still hold records send them before Node leaves. */

/** A queue, as far as the end of a process is concerned. */
export interface Unsent {
  flushAtExit(timeoutS: number): Promise<void>;
}

interface NodeProcess {
  on(event: "beforeExit", listener: () => void): unknown;
  off(event: "beforeExit", listener: () => void): unknown;
  versions?: { node?: string };
}

/** How long all queues of a process together may hold up its end. */
const EXIT_TIMEOUT_S = 2;

/**
 * Queues that hold records.
 *
 * Global, as the event of Node is: a listener for each would make Node warn of a leak from the eleventh client on. Bounded by
 * the queues that hold records now; with the last of them the listener goes too. JavaScript needs no lock.
 */
const unsent = new Set<Unsent>();

/** Remember a queue that holds records. */
export function remember(queue: Unsent): void {
  if (unsent.size === 0) node()?.on("beforeExit", flushAll);
  unsent.add(queue);
}

/** Forget a queue that holds none any more. */
export function forget(queue: Unsent): void {
  unsent.delete(queue);
  if (unsent.size === 0) node()?.off("beforeExit", flushAll);
}

function flushAll(): void {
  // Node leaves when nothing is left to do, asks here first, and leaves without asking if this adds nothing.
  for (const queue of unsent) void queue.flushAtExit(EXIT_TIMEOUT_S);
}

function node(): NodeProcess | undefined {
  const { process } = globalThis as { process?: NodeProcess };
  return process?.versions?.node && typeof process.on === "function" ? process : undefined;
}
