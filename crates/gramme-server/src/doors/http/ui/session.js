// Talks to the node that served the page. The token, if the cluster wants one, is kept for this tab alone.

const TOKEN = 'gramme.token';
const PATIENCE_MS = 8000;

/** Somebody must give the token, or another one. */
export class TokenWanted extends Error {}

/** The node did not answer, or not as it should; the message is a sentence for a person. */
export class NoAnswer extends Error {}

export const hasToken = () => sessionStorage.getItem(TOKEN) !== null;
export const setToken = (token) => sessionStorage.setItem(TOKEN, token);
export const forgetToken = () => sessionStorage.removeItem(TOKEN);

/** The JSON that the node answers at a path, relative to the page. */
export async function ask(path) {
  const headers = { accept: 'application/json' };
  if (hasToken()) headers.authorization = `Bearer ${sessionStorage.getItem(TOKEN)}`;
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), PATIENCE_MS);
  let response;
  try {
    response = await fetch(path, { headers, cache: 'no-store', credentials: 'omit', signal: late.signal });
    if (response.status === 401) throw new TokenWanted();
    const answer = await response.json();
    if (!response.ok) throw new NoAnswer(answer.detail || `it answers with status ${response.status}`);
    return answer;
  } catch (error) {
    if (error instanceof TokenWanted || error instanceof NoAnswer) throw error;
    if (late.signal.aborted) throw new NoAnswer('it does not answer in time');
    throw new NoAnswer(response ? 'its answer cannot be read' : 'nothing answers at its address');
  } finally {
    clearTimeout(timer);
  }
}
