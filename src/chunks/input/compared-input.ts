// A source that could not be reached at the start: it is opened, and compared with the image that is served.

import type { Input } from '../contract/coding.js';

/** Called when the server of a source has ended. @param how in one line */
type OnEnd = (how: string) => Promise<void>;

interface ComparedInput {
  readonly open: (onEnd: OnEnd) => Promise<Input>;
  /** Whether the source has the image. */
  readonly isSame: (input: Input) => Promise<boolean>;
  /** Called only for a source that is used. */
  readonly onEnd: OnEnd;
}

/**
 * Opens a source that may have the image.
 * @returns `other`: it has another one
 * @throws the errors of `open` and `isSame`; Error when the server of the source has ended meanwhile
 */
export async function comparedInput({ open, isSame, onEnd }: ComparedInput): Promise<Input | 'other'> {
  let isUsed = false;
  let ended: string | undefined;
  const input = await open(async (how) => {
    ended = how;
    if (isUsed) await onEnd(how);
  });
  try {
    const isRight = await isSame(input);
    // A server that has ended answers no further read, and nobody would tell it again.
    if (ended !== undefined) throw new Error(ended);
    isUsed = isRight;
  } finally {
    if (!isUsed) await input.close();
  }
  return isUsed ? input : 'other';
}
