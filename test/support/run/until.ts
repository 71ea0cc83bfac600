// Waits for a condition that has no event, such as the end of another process's child.
//
// For clean-up and for /proc. Where there is an event (an exit, a line, a file that appears), wait for it.

const INTERVAL = 5;

/** Resolves once `holds` does. @throws Error with the name of the condition, after `limit` milliseconds */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  limit = 10_000,
): Promise<void> {
  const end = performance.now() + limit;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`waited ${limit} ms in vain for: ${what}`);
    await new Promise((next) => setTimeout(next, INTERVAL));
  }
}
