// Numbers of system calls that nbdfuse makes by number; they differ between processors.

const SYNC_FILE_RANGES: Readonly<Partial<Record<string, number>>> = { x64: 277, arm64: 84 };

/** sync_file_range(2); undefined where it is not known. */
export const SYNC_FILE_RANGE = SYNC_FILE_RANGES[process.arch];
