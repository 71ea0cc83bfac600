// The events of poll(2) that nbdfuse uses.

export const POLLIN = 1;
export const POLLOUT = 4;
