/** Sends the pending records of all queues before a Node process exits. */

/** A queue with pending records. */
export interface Unsent {
  flushAtExit(timeoutS: number): Promise<void>;
}

interface NodeProcess {
  on(event: "beforeExit", listener: () => void): unknown;
  off(event: "beforeExit", listener: () => void): unknown;
  versions?: { node?: string };
}

/** Longest time for which all queues together delay the exit of a process. */
const EXIT_TIMEOUT_S = 2;

/**
 * Queues with pending records.
 *
 * Global, because the event of Node is global: with one listener per client, Node warns of a leak from the eleventh on. Bounded
 * by the queues with pending records; without any, the listener is removed. JavaScript needs no lock.
 */
const unsent = new Set<Unsent>();

/** Registers a queue that has pending records. */
export function register(queue: Unsent): void {
  if (unsent.size === 0) node()?.on("beforeExit", flushAll);
  unsent.add(queue);
}

/** Unregisters a queue without pending records. */
export function unregister(queue: Unsent): void {
  unsent.delete(queue);
  if (unsent.size === 0) node()?.off("beforeExit", flushAll);
}

function flushAll(): void {
  // Node emits beforeExit when its event loop is empty, and exits if the listeners add no work.
  for (const queue of unsent) void queue.flushAtExit(EXIT_TIMEOUT_S);
}

function node(): NodeProcess | undefined {
  const { process } = globalThis as { process?: NodeProcess };
  return process?.versions?.node && typeof process.on === "function" ? process : undefined;
}
