// The error of a command line that is not valid.

/** `message` is one line without the program's name; it names the next step where there is one. */
export class UsageError extends Error {
  override name = 'UsageError';
}
