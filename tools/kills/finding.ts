/** A wrong result. */
export class Finding extends Error {}
