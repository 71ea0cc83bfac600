// The error of a failed mount or unmount: one line that says what failed, why, and what to do.

/** See the file's head; `errno` is a Linux errno where the kernel gave one. */
export class MountError extends Error {
  override name = 'MountError';
  readonly errno: number | undefined;

  constructor(message: string, errno?: number) {
    super(message);
    this.errno = errno;
  }
}
