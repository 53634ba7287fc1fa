"""The OpenAPI and AsyncAPI documents, the check that they are complete, and the page that shows them."""
