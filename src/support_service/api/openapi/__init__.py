"""OpenAPI and AsyncAPI documents, a check for missing descriptions, and the HTML page of the API."""
