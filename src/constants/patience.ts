/** Milliseconds after which a wait gets a line that says what it is for. */
export const ANNOUNCE_AFTER = 2000;
