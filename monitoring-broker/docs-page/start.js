// Shows openapi.json of this process. Nothing is asked of any other server, and a token is forgotten with the page.
"use strict";
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#ui",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
  validatorUrl: null,
});
