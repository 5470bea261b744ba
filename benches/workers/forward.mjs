// The floor: hands the request's stream to the provider and the provider's answer to the client, and looks at neither.
export default {
  fetch(request) {
    const { headers } = request;
    return fetch(`${headers.get('x-portkey-custom-host')}/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: headers.get('authorization') },
      body: request.body,
      redirect: 'manual',
    });
  },
};
